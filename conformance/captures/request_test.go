package captures

import (
	"fmt"
	"net/http"
	"regexp/syntax"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// ask is a request that a route matches.
type ask struct {
	method, host, path string
	header             http.Header
}

func (a ask) String() string { return fmt.Sprintf("%s %s%s %v", a.method, a.host, a.path, a.header) }

// matching returns a request for the route of a host.
func matching(t *testing.T, h *routev3.VirtualHost, r *routev3.Route) ask {
	t.Helper()
	a := ask{method: http.MethodGet, host: h.GetDomains()[0], header: make(http.Header)}
	a.host = strings.Replace(a.host, "*", "any.example", 1)
	m := r.GetMatch()
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		a.path = p.Path
	case *routev3.RouteMatch_Prefix:
		a.path = p.Prefix + "q"
	case *routev3.RouteMatch_PathSeparatedPrefix:
		a.path = p.PathSeparatedPrefix + "/q"
	case *routev3.RouteMatch_SafeRegex:
		a.path = sample(t, p.SafeRegex.GetRegex())
	default:
		t.Fatalf("a route of a kind this test does not know: %v", m)
	}
	for _, q := range m.GetQueryParameters() {
		sep := "?"
		if strings.Contains(a.path, "?") {
			sep = "&"
		}
		a.path += sep + q.GetName() + "=" + fits(t, q.GetStringMatch())
	}
	for _, f := range m.GetHeaders() {
		v := "q"
		if s := f.GetStringMatch(); s != nil {
			v = fits(t, s)
		}
		switch {
		case f.GetInvertMatch():
		case f.GetName() == ":method":
			a.method = v
		case f.GetName() == ":authority":
			a.host = v
		default:
			a.header.Set(f.GetName(), v)
		}
	}
	return a
}

// fits returns a string that m matches.
func fits(t *testing.T, m *matcherv3.StringMatcher) string {
	t.Helper()
	switch p := m.GetMatchPattern().(type) {
	case nil:
		return "q"
	case *matcherv3.StringMatcher_Exact:
		return p.Exact
	case *matcherv3.StringMatcher_Prefix:
		return p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		return p.Suffix
	case *matcherv3.StringMatcher_Contains:
		return p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		return sample(t, p.SafeRegex.GetRegex())
	default:
		t.Fatalf("a matcher of a kind this test does not know: %v", m)
		return ""
	}
}

// sample returns a string that a regular expression matches.
func sample(t *testing.T, regex string) string {
	t.Helper()
	re, err := syntax.Parse(regex, syntax.Perl)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var write func(re *syntax.Regexp)
	write = func(re *syntax.Regexp) {
		switch re.Op {
		case syntax.OpLiteral:
			b.WriteString(string(re.Rune))
		case syntax.OpCharClass:
			b.WriteRune(re.Rune[0])
		case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
			b.WriteByte('q')
		case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
			write(re.Sub[0])
		case syntax.OpRepeat:
			for range re.Min {
				write(re.Sub[0])
			}
		case syntax.OpConcat:
			for _, s := range re.Sub {
				write(s)
			}
		default: // what can be nothing is nothing
		}
	}
	write(re)
	return b.String()
}
