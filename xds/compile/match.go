package compile

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/quadnine/quadnine/snapshot"
)

func (r *review) routeMatch(m *routev3.RouteMatch, p *at) snapshot.RouteMatch {
	out := snapshot.RouteMatch{
		IgnoreCase: m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue(),
		Headers:    r.headers(m.GetHeaders(), p, "headers"),
		Fraction:   fraction(m.GetRuntimeFraction()),
	}
	switch path := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Kind, out.Path = snapshot.PathPrefix, path.Prefix
	case *routev3.RouteMatch_Path:
		out.Kind, out.Path = snapshot.PathExact, path.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Kind, out.Path = snapshot.PathSegmentPrefix, path.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		out.Kind, out.Regex = snapshot.PathRegex, r.regex(path.SafeRegex, p.f("safe_regex"))
		out.IgnoreCase = false // as in Envoy: the pattern says it
	}
	for i, q := range m.GetQueryParameters() {
		one := snapshot.QueryMatcher{Name: q.GetName()}
		switch by := q.GetQueryParameterMatchSpecifier().(type) {
		case *routev3.QueryParameterMatcher_StringMatch:
			one.String = r.text(by.StringMatch, p.i("query_parameters", i).f("string_match"))
		case *routev3.QueryParameterMatcher_PresentMatch:
			one.Present = &by.PresentMatch
		default:
			one.Present = new(true)
		}
		out.Query = append(out.Query, one)
	}
	return out
}

func (r *review) headers(in []*routev3.HeaderMatcher, p *at, field string) (out []snapshot.HeaderMatcher) {
	for i, h := range in {
		out = append(out, r.header(h, p.i(field, i)))
	}
	return out
}

// header compiles one matcher; the kinds that string_match replaced become one.
func (r *review) header(h *routev3.HeaderMatcher, p *at) snapshot.HeaderMatcher {
	out := snapshot.HeaderMatcher{Name: strings.ToLower(h.GetName()), Invert: h.GetInvertMatch(), MissingAsEmpty: h.GetTreatMissingHeaderAsEmpty()}
	str := func(kind snapshot.StringKind, v string) *snapshot.StringMatcher {
		return &snapshot.StringMatcher{Kind: kind, Value: v}
	}
	switch by := h.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_ExactMatch:
		out.String = str(snapshot.StringExact, by.ExactMatch)
	case *routev3.HeaderMatcher_PrefixMatch:
		out.String = str(snapshot.StringPrefix, by.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		out.String = str(snapshot.StringSuffix, by.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		out.String = str(snapshot.StringContains, by.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		out.String = &snapshot.StringMatcher{Kind: snapshot.StringRegex, Regex: r.regex(by.SafeRegexMatch, p.f("safe_regex_match"))}
	case *routev3.HeaderMatcher_RangeMatch:
		out.Range = &snapshot.Range{Start: by.RangeMatch.GetStart(), End: by.RangeMatch.GetEnd()}
	case *routev3.HeaderMatcher_PresentMatch:
		out.Present = &by.PresentMatch
	case *routev3.HeaderMatcher_StringMatch:
		out.String = r.text(by.StringMatch, p.f("string_match"))
	default:
		out.Present = new(true)
	}
	return out
}

func (r *review) text(m *matcherv3.StringMatcher, p *at) *snapshot.StringMatcher {
	out := &snapshot.StringMatcher{IgnoreCase: m.GetIgnoreCase()}
	switch by := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = snapshot.StringExact, by.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = snapshot.StringPrefix, by.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = snapshot.StringSuffix, by.Suffix
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = snapshot.StringContains, by.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		if out.IgnoreCase {
			r.ignore(p.f("ignore_case"), "true", "as in Envoy: a pattern says it by (?i)")
		}
		out.Kind, out.Regex, out.IgnoreCase = snapshot.StringRegex, r.regex(by.SafeRegex, p.f("safe_regex")), false
	}
	if out.IgnoreCase {
		out.Value = strings.ToLower(out.Value)
	}
	return out
}
