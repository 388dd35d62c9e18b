package snapshot

import "bytes"

// Holds reports whether query, without its question mark, satisfies m. As in
// Envoy nothing is decoded, and only the first of several parameters counts.
func (m *QueryMatcher) Holds(query []byte) bool {
	v, found := parameter(query, m.Name)
	switch {
	case m.String != nil:
		return found && m.String.Holds(v)
	case m.Present != nil:
		return found == *m.Present
	default:
		return found
	}
}

// parameter returns the first value of name.
func parameter(query []byte, name string) (value []byte, found bool) {
	for len(query) > 0 {
		var p []byte
		p, query, _ = bytes.Cut(query, []byte{'&'})
		k, v, _ := bytes.Cut(p, []byte{'='})
		if string(k) == name {
			return v, true
		}
	}
	return nil, false
}
