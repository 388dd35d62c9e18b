package snapshot

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// WholeRegexp compiles a pattern that has to match a whole string, as
// safe_regex does.
func WholeRegexp(pattern string) (*regexp.Regexp, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err // without what is put around it below
	}
	if strings.Contains(pattern, `\Q`) {
		pattern = re.String() // a quotation may be open at its end
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// Substitution turns RE2's form of a substitution, with \0 to \9 for groups and
// \\ for a backslash, into Go's. groups is how many the pattern captures. What it
// notes is what RE2 makes of a mistake: nothing is replaced when there is no such
// group, and what stands after a backslash that means nothing is left out. An
// error is what Envoy does not take either.
func Substitution(s string, groups int) (text, note string, err error) {
	if i := strings.IndexAny(s, "\r\n\x00"); i >= 0 {
		return "", "", fmt.Errorf("substitution %q: byte %d is a line break or NUL, which no header value may hold", s, i)
	}
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if i++; '0' <= s[i] && s[i] <= '9' && int(s[i]-'0') > groups {
			return "${0}", fmt.Sprintf(`nothing is replaced: \%c asks for a group that the pattern does not have, it has %d`, s[i], groups), nil
		}
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			out.WriteString("$$")
		case c != '\\':
			out.WriteByte(c)
		case i+1 < len(s) && s[i+1] == '\\':
			i++
			out.WriteByte('\\')
		case i+1 < len(s) && '0' <= s[i+1] && s[i+1] <= '9':
			i++
			fmt.Fprintf(&out, "${%c}", s[i])
		default:
			return out.String(), fmt.Sprintf(`what stands from byte %d on is left out: use \0 to \9 for what a group matched, \\ for a backslash`, i), nil
		}
	}
	return out.String(), "", nil
}

// Apply appends path with every match replaced to dst. A query is not part of
// path.
func (r *RegexRewrite) Apply(dst, path []byte) []byte {
	return append(dst, r.Pattern.ReplaceAll(path, []byte(r.Substitution))...)
}
