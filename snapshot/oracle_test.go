package snapshot

import (
	"slices"
	"strconv"
	"strings"
)

// pairs is a header list; a pair with an empty name was deleted.
type pairs [][2]string

func (f pairs) Len() int { return len(f) }

func (f pairs) Name(i int) []byte {
	if f[i][0] == "" {
		return nil
	}
	return []byte(f[i][0])
}

func (f pairs) Value(i int) []byte { return []byte(f[i][1]) }

func (f pairs) Get(name string) []byte {
	for _, p := range f {
		if p[0] == name {
			return []byte(p[1])
		}
	}
	return nil
}

// oracle is what Match must return: every route is asked, in order, by code that
// shares nothing with the index. It says how Envoy 1.40 was seen to behave.
func oracle(h *VirtualHost, in *Input) *Route {
	for _, r := range h.Routes {
		if oracleRoute(&r.Match, in) {
			return r
		}
	}
	return nil
}

func oracleRoute(m *RouteMatch, in *Input) bool {
	path, want := string(in.Path), m.Path
	if m.IgnoreCase {
		path, want = strings.ToLower(path), strings.ToLower(want)
	}
	var ok bool
	switch m.Kind {
	case PathExact:
		ok = path == want
	case PathPrefix:
		ok = strings.HasPrefix(path, want)
	case PathSegmentPrefix:
		ok = path == want || strings.HasPrefix(path, want+"/")
	case PathRegex:
		ok = m.Regex.MatchString(string(in.Path))
	}
	for i := range m.Headers {
		ok = ok && oracleHeader(&m.Headers[i], in.Fields.(pairs))
	}
	for i := range m.Query {
		ok = ok && oracleQuery(&m.Query[i], string(in.Query))
	}
	return ok && (m.Fraction == nil || in.Draw%uint64(m.Fraction.Denominator) < uint64(m.Fraction.Numerator))
}

func oracleHeader(m *HeaderMatcher, f pairs) bool {
	var values []string
	for _, p := range f {
		if p[0] == m.Name || p[0] == ":authority" && m.Name == "host" {
			values = append(values, p[1])
		}
	}
	if len(values) > 1 && slices.Contains([]string{"user-agent", "accept", "x-request-id"}, m.Name) {
		values = []string{strings.Join(values, ",")}
	}
	if len(values) == 0 && m.MissingAsEmpty {
		values = []string{""}
	}
	if m.String == nil && m.Range == nil {
		want := m.Present == nil || *m.Present
		return (len(values) > 0) == want != m.Invert
	}
	if len(values) == 0 {
		return false
	}
	return m.Invert != slices.ContainsFunc(values, func(v string) bool {
		if m.Range != nil {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return err == nil && m.Range.Start <= n && n < m.Range.End
		}
		return oracleString(m.String, v)
	})
}

func oracleString(m *StringMatcher, v string) bool {
	if m.Kind == StringRegex {
		return m.Regex.MatchString(v)
	}
	if m.IgnoreCase {
		v = strings.ToLower(v)
	}
	return map[StringKind]func(string, string) bool{
		StringExact:    func(a, b string) bool { return a == b },
		StringPrefix:   strings.HasPrefix,
		StringSuffix:   strings.HasSuffix,
		StringContains: strings.Contains,
	}[m.Kind](v, m.Value)
}

func oracleQuery(m *QueryMatcher, query string) bool {
	for p := range strings.SplitSeq(query, "&") {
		name, v, _ := strings.Cut(p, "=")
		if p == "" || name != m.Name {
			continue
		}
		if m.String != nil {
			return oracleString(m.String, v)
		}
		return m.Present == nil || *m.Present
	}
	return m.String == nil && m.Present != nil && !*m.Present
}
