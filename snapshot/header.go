package snapshot

import (
	"bytes"
	"strconv"
	"strings"
)

// Holds reports whether f satisfies m.
//
// As in Envoy since 1.39, one of several fields of the same name suffices, and
// with Invert none may; a few well-known fields are one, joined by commas, as
// soon as they are received. A missing field satisfies nothing, not even with
// Invert, but for present_match and treat_missing_header_as_empty.
func (m *HeaderMatcher) Holds(f Fields) bool {
	name := m.Name
	v := f.Get(name)
	if v == nil && name == "host" { // which HTTP/1.1 requests have as :authority
		name = ":authority"
		v = f.Get(name)
	}
	switch {
	case m.Range == nil && m.String == nil:
		want := m.Present == nil || *m.Present
		return (v != nil || m.MissingAsEmpty) == want != m.Invert
	case v == nil && !m.MissingAsEmpty:
		return false
	case v == nil || strings.HasPrefix(name, ":"):
		return m.value(v) != m.Invert
	}
	if joined(name) {
		return m.joined(f, v) != m.Invert
	}
	return m.any(f, v) != m.Invert
}

// any reports whether one of the values holds. The first is known.
func (m *HeaderMatcher) any(f Fields, first []byte) bool {
	if m.value(first) {
		return true
	}
	seen := false
	for i := range f.Len() {
		if string(f.Name(i)) != m.Name {
			continue
		}
		if seen && m.value(f.Value(i)) {
			return true
		}
		seen = true
	}
	return false
}

// joined reports whether all values together hold.
func (m *HeaderMatcher) joined(f Fields, first []byte) bool {
	var buf [512]byte // more than that of a repeated field is allocated
	all, n := append(buf[:0], first...), 0
	for i := range f.Len() {
		if string(f.Name(i)) != m.Name {
			continue
		}
		if n > 0 {
			all = append(append(all, ','), f.Value(i)...)
		}
		n++
	}
	if n > 1 && m.String != nil && m.String.Kind == StringRegex {
		return m.value(bytes.Clone(all)) // a pattern may keep hold of what it reads
	}
	if n > 1 {
		return m.plain(all)
	}
	return m.value(first)
}

func (m *HeaderMatcher) value(v []byte) bool {
	if m.String != nil && m.String.Kind == StringRegex {
		return m.String.Regex.Match(v)
	}
	return m.plain(v)
}

// plain is value for all but regular expressions.
func (m *HeaderMatcher) plain(v []byte) bool {
	if m.Range == nil {
		return m.String.plain(v)
	}
	n, ok := wholeNumber(v)
	return ok && n >= m.Range.Start && n < m.Range.End
}

// wholeNumber parses what Envoy takes for a number: spaces around it and a sign
// are fine.
func wholeNumber(v []byte) (int64, bool) {
	v = bytes.Trim(v, " \t\r\n\v\f")
	if len(v) == 0 || len(v) > 64 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil
}

// Holds reports whether v satisfies m.
func (m *StringMatcher) Holds(v []byte) bool {
	if m.Kind == StringRegex {
		return m.Regex.Match(v)
	}
	return m.plain(v)
}

// plain is Holds for all but regular expressions.
func (m *StringMatcher) plain(v []byte) bool {
	n := len(m.Value)
	if n > len(v) {
		return false
	}
	switch m.Kind {
	case StringExact:
		return n == len(v) && m.equal(v)
	case StringPrefix:
		return m.equal(v[:n])
	case StringSuffix:
		return m.equal(v[len(v)-n:])
	default:
		if !m.IgnoreCase {
			return bytes.Contains(v, []byte(m.Value))
		}
		for i := 0; i+n <= len(v); i++ {
			if m.equal(v[i : i+n]) {
				return true
			}
		}
		return false
	}
}

func (m *StringMatcher) equal(v []byte) bool {
	if m.IgnoreCase {
		return equalFold(v, m.Value)
	}
	return string(v) == m.Value
}

// joined reports whether Envoy 1.40 makes one of several fields called name: it
// keeps a fixed slot for these.
func joined(name string) bool {
	switch name {
	case "accept", "accept-encoding", "access-control-request-headers", "access-control-request-method",
		"authorization", "cache-control", "content-type", "expect", "grpc-accept-encoding", "grpc-timeout",
		"if-match", "if-modified-since", "if-none-match", "keep-alive", "origin", "pragma",
		"proxy-connection", "proxy-status", "referer", "te", "upgrade", "user-agent", "via",
		"x-client-trace-id", "x-envoy-attempt-count", "x-envoy-decorator-operation",
		"x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
		"x-envoy-expected-rq-timeout-ms", "x-envoy-external-address", "x-envoy-force-trace",
		"x-envoy-hedge-on-per-try-timeout", "x-envoy-internal", "x-envoy-ip-tags",
		"x-envoy-is-timeout-retry", "x-envoy-max-retries", "x-envoy-original-path",
		"x-envoy-retriable-header-names", "x-envoy-retriable-status-codes", "x-envoy-retry-grpc-on",
		"x-envoy-retry-on", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-stream-duration-ms", "x-forwarded-client-cert", "x-forwarded-for",
		"x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id":
		return true
	default:
		return false
	}
}
