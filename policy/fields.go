package policy

// Fields is a header list, as a caller holds it: names in lower case, fields
// called ":…" first. A field whose name is nil is deleted.
type Fields interface {
	Get(name string) []byte // the first value, nil when there is none
	Len() int
	Name(i int) []byte
	Value(i int) []byte
}

// listed reports whether a comma-separated list, like Connection's, has the
// member name. Members are compared without regard to case.
func listed(list, name []byte) bool {
	for m := range members(list) {
		if foldEqual(m, name) {
			return true
		}
	}
	return false
}

// members yields the members of a comma-separated list without the white space
// round them, leaving out empty ones (RFC 9110 section 5.6.1).
func members(list []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(list) > 0 {
			end := 0
			for end < len(list) && list[end] != ',' {
				end++
			}
			if m := trim(list[:end]); len(m) > 0 && !yield(m) {
				return
			}
			list = list[min(end+1, len(list)):]
		}
	}
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func foldEqual(a, b []byte) bool { return len(a) == len(b) && foldPrefix(a, b) }

// foldPrefix reports whether b begins with prefix, which is at most as long.
func foldPrefix(b, prefix []byte) bool {
	if len(b) < len(prefix) {
		return false
	}
	for i := range prefix {
		if lower(b[i]) != lower(prefix[i]) {
			return false
		}
	}
	return true
}
