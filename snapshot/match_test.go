package snapshot

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var somePatterns = func() (out []*regexp.Regexp) {
	for _, p := range []string{"/a", "/a.*", "/(a|b)/?", "(?i)/A", ".*", "/a|/ab", "/ab/[0-9]+", "", "/(?:a)+b*"} {
		out = append(out, regexp.MustCompile(`\A(?:`+p+`)\z`))
	}
	return out
}()

var (
	somePaths  = []string{"", "/", "/a", "/A", "/ab", "/a/", "/a/b", "/aB", "/a/b/c", "/ab/1", "/b", "/b/", "/a/b/c/d/e", "/é"}
	someNames  = []string{"x", "y", "z", ":method", "user-agent", "host", "w", "v"}
	someValues = []string{"", "a", "A", "b", "a,b", "1", "5", "10", "-3", " 7", "aab"}
)

func drawString(t *rapid.T) *StringMatcher {
	m := &StringMatcher{
		Kind:       StringKind(rapid.IntRange(0, 4).Draw(t, "string kind")),
		Value:      rapid.SampledFrom(someValues).Draw(t, "wanted"),
		IgnoreCase: rapid.IntRange(0, 3).Draw(t, "fold") == 0,
	}
	if m.Kind == StringRegex {
		m.Regex = rapid.SampledFrom(somePatterns).Draw(t, "pattern")
	}
	if m.IgnoreCase {
		m.Value = strings.ToLower(m.Value)
	}
	return m
}

func drawHeader(t *rapid.T) HeaderMatcher {
	m := HeaderMatcher{
		Name:           rapid.SampledFrom(someNames).Draw(t, "name"),
		Invert:         rapid.IntRange(0, 3).Draw(t, "invert") == 0,
		MissingAsEmpty: rapid.IntRange(0, 3).Draw(t, "empty") == 0,
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		m.Present = new(rapid.Bool().Draw(t, "present"))
	case 1:
		m.Range = &Range{-5, 8}
	case 2:
	case 3:
		m.String = drawString(t)
	default: // what the index selects by
		m = HeaderMatcher{Name: m.Name, String: &StringMatcher{Value: rapid.SampledFrom(someValues).Draw(t, "equal")}}
	}
	return m
}

func drawRoute(t *rapid.T) *Route {
	m := RouteMatch{Kind: PathKind(rapid.IntRange(0, 3).Draw(t, "path kind")), IgnoreCase: rapid.IntRange(0, 3).Draw(t, "fold") == 0}
	m.Path = rapid.SampledFrom(somePaths).Draw(t, "path")
	if rapid.Bool().Draw(t, "like others") { // so that there are long lists
		m = RouteMatch{Path: "/"}
	}
	switch m.Kind {
	case PathRegex:
		m.Path, m.Regex = "", rapid.SampledFrom(somePatterns).Draw(t, "pattern")
	case PathSegmentPrefix:
		m.Path = "/" + strings.Trim(m.Path, "/")
	}
	m.Headers = rapid.SliceOfN(rapid.Custom(drawHeader), 0, 2).Draw(t, "headers")
	if rapid.IntRange(0, 3).Draw(t, "query") == 0 {
		q := QueryMatcher{Name: rapid.SampledFrom([]string{"q", "r"}).Draw(t, "parameter")}
		switch rapid.IntRange(0, 2).Draw(t, "query kind") {
		case 0:
			q.Present = new(rapid.Bool().Draw(t, "present"))
		case 1:
			q.String = drawString(t)
		}
		m.Query = []QueryMatcher{q}
	}
	if rapid.IntRange(0, 5).Draw(t, "fraction") == 0 {
		m.Fraction = &Fraction{Numerator: 50, Denominator: 100}
	}
	return &Route{Match: m}
}

func drawInput(t *rapid.T) *Input {
	in := &Input{
		Path:  []byte(rapid.SampledFrom(somePaths).Draw(t, "path")),
		Query: []byte(rapid.SampledFrom([]string{"", "q", "q=", "q=a", "r=1&q=b&q=a", "&q=a=b", "=q", "q%3D"}).Draw(t, "query")),
		Draw:  rapid.Uint64Range(0, 99).Draw(t, "draw"),
	}
	f := pairs{{":method", "a"}, {":authority", "b"}}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		name := rapid.SampledFrom([]string{"x", "y", "z", "user-agent", "w", ""}).Draw(t, "name")
		f = append(f, [2]string{name, rapid.SampledFrom(someValues).Draw(t, "value")})
	}
	in.Fields = f
	return in
}

// TestMatchIsTheLinearScan: whatever the index holds, the first route in order
// that matches is taken, also when the index comes from an earlier table.
func TestMatchIsTheLinearScan(t *testing.T) { rapid.Check(t, linearScan) }

// FuzzMatch is the same with what the fuzzer makes up.
func FuzzMatch(f *testing.F) {
	for seed := range byte(8) { // long enough for many routes
		b := make([]byte, 16<<10)
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
		f.Add(b)
	}
	f.Fuzz(rapid.MakeFuzz(linearScan))
}

// matched is Match, which must be what the index finds also where Match does not
// ask it.
func matched(t rapid.TB, h *VirtualHost, in *Input) *Route {
	t.Helper()
	got := h.Match(in)
	if h.routes != nil {
		if by := h.find(in); by != got {
			t.Fatalf("one by one route %d, by index %d", slices.Index(h.Routes, got), slices.Index(h.Routes, by))
		}
	}
	return got
}

func linearScan(t *rapid.T) {
	h := &VirtualHost{Name: "v", Domains: []string{"*"}, Routes: rapid.SliceOfN(rapid.Custom(drawRoute), 0, 60).Draw(t, "routes")}
	table := &RouteTable{Hosts: []*VirtualHost{h}}
	if err := table.Finish(nil); err != nil {
		t.Fatal(err)
	}
	check := func(h *VirtualHost) {
		for range 10 {
			in := drawInput(t)
			if got, want := matched(t, h, in), oracle(h, in); got != want {
				t.Fatalf("route %d, want %d for %s?%s %v", slices.Index(h.Routes, got), slices.Index(h.Routes, want), in.Path, in.Query, in.Fields)
			}
		}
	}
	check(h)
	if len(h.Routes) == 0 {
		return
	}
	next := &VirtualHost{Name: "v", Domains: h.Domains, Routes: slices.Clone(h.Routes)}
	at := rapid.IntRange(0, len(h.Routes)-1).Draw(t, "changed")
	next.Routes[at] = drawRoute(t)
	if err := (&RouteTable{Hosts: []*VirtualHost{next}}).Finish(table); err != nil {
		t.Fatal(err)
	}
	check(next)
	check(h)
}

func TestManyNestedPrefixesKeepTheirOrder(t *testing.T) {
	path := "/" + strings.Repeat("a", 3*maxLists)
	h := &VirtualHost{Domains: []string{"*"}}
	for i := len(path); i > 1; i-- {
		h.Routes = append(h.Routes, &Route{Name: strconv.Itoa(i), Match: RouteMatch{Path: path[:i], Headers: []HeaderMatcher{{Name: "x", String: &StringMatcher{Value: strconv.Itoa(i)}}}}})
	}
	if err := (&RouteTable{Hosts: []*VirtualHost{h}}).Finish(nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2", "30", strconv.Itoa(len(path))} {
		r := h.Match(&Input{Path: []byte(path), Fields: pairs{{"x", want}}})
		if r == nil || r.Name != want {
			t.Errorf("route %v, want %s", r, want)
		}
	}
}

// TestHeadersAreMatchedAsEnvoyDoes holds what Envoy 1.40 answered.
func TestHeadersAreMatchedAsEnvoyDoes(t *testing.T) {
	exact := func(s string) HeaderMatcher { return HeaderMatcher{String: &StringMatcher{Value: s}} }
	inverted := func(m HeaderMatcher) HeaderMatcher { m.Invert = true; return m }
	orEmpty := func(m HeaderMatcher) HeaderMatcher { m.MissingAsEmpty = true; return m }
	present := func(b bool) HeaderMatcher { return HeaderMatcher{Present: &b} }
	in := HeaderMatcher{Range: &Range{-5, 10}}
	for _, c := range []struct {
		what    string
		m       HeaderMatcher
		yes, no [][]string // values of the field
	}{
		{"exact", exact("a"), [][]string{{"a"}, {"b", "a"}, {"a", "a"}}, [][]string{{}, {"b"}, {"a,b"}, {"A"}}},
		{"exact comma", exact("a,b"), [][]string{{"a,b"}}, [][]string{{"a", "b"}, {"a"}}},
		{"exact inverted", inverted(exact("a")), [][]string{{"b"}, {"b", "c"}}, [][]string{{}, {"a"}, {"b", "a"}}},
		{"exact inverted or empty", inverted(orEmpty(exact("a"))), [][]string{{}, {"b"}}, [][]string{{"a"}}},
		{"exact empty", exact(""), [][]string{{""}}, [][]string{{}, {"a"}}},
		{"exact empty or empty", orEmpty(exact("")), [][]string{{}, {""}}, [][]string{{"a"}}},
		{"present", present(true), [][]string{{""}, {"a"}}, [][]string{{}}},
		{"absent", present(false), [][]string{{}}, [][]string{{""}, {"a"}}},
		{"present inverted", inverted(present(true)), [][]string{{}}, [][]string{{"a"}}},
		{"absent inverted", inverted(present(false)), [][]string{{"a"}}, [][]string{{}}},
		{"present or empty", orEmpty(present(true)), [][]string{{}, {"a"}}, nil},
		{"absent or empty", orEmpty(present(false)), nil, [][]string{{}, {"a"}}},
		{"present or empty inverted", inverted(orEmpty(present(true))), nil, [][]string{{}, {"a"}}},
		{"nothing said", HeaderMatcher{}, [][]string{{"a"}}, [][]string{{}}},
		{"nothing said inverted", HeaderMatcher{Invert: true}, [][]string{{}}, [][]string{{"a"}}},
		{
			"range", in,
			[][]string{{"-5"}, {"9"}, {"+3"}, {" 3"}, {"3 "}, {"-0"}, {"99", "1"}},
			[][]string{{}, {"10"}, {"1 2"}, {"0x3"}, {""}, {"3a"}, {"99999999999999999999"}, {"+-3"}, {"3,4"}},
		},
		{"range or empty", orEmpty(in), nil, [][]string{{}}},
		{"range inverted or empty", inverted(orEmpty(in)), [][]string{{}, {"q"}}, [][]string{{"3"}, {"99", "1"}}},
		{"folded", HeaderMatcher{String: &StringMatcher{Value: "abc", IgnoreCase: true}}, [][]string{{"aBC"}}, [][]string{{"abd"}}},
		{"folded contains", HeaderMatcher{String: &StringMatcher{Kind: StringContains, Value: "abc", IgnoreCase: true}}, [][]string{{"zaBCz"}}, [][]string{{"zabz"}}},
		{"regex", HeaderMatcher{String: &StringMatcher{Kind: StringRegex, Regex: regexp.MustCompile(`\A(?:a|ab)\z`)}}, [][]string{{"ab"}, {"x", "a"}}, [][]string{{"abc"}}},
	} {
		c.m.Name = "x"
		for want, all := range map[bool][][]string{true: c.yes, false: c.no} {
			for _, values := range all {
				f := pairs{{"", "a"}}
				for _, v := range values {
					f = append(f, [2]string{"x", v})
				}
				if c.m.Holds(f) != want {
					t.Errorf("%s: %q holds: %v, want %v", c.what, values, !want, want)
				}
			}
		}
	}
}

func TestWellKnownFieldsAreJoined(t *testing.T) {
	f := pairs{{"user-agent", "a"}, {"x", "q"}, {"user-agent", "b"}, {":authority", "h"}}
	for _, m := range []HeaderMatcher{
		{Name: "user-agent", String: &StringMatcher{Value: "a,b"}},
		{Name: "user-agent", String: &StringMatcher{Kind: StringRegex, Regex: regexp.MustCompile(`\Aa,b\z`)}},
		{Name: "user-agent", Invert: true, String: &StringMatcher{Value: "a"}},
		{Name: "host", String: &StringMatcher{Value: "h"}},
	} {
		if !m.Holds(f) {
			t.Errorf("%+v does not hold", m)
		}
	}
}

func TestQueryIsNotDecoded(t *testing.T) {
	one := &StringMatcher{Value: "1"}
	for query, want := range map[string]bool{
		"": false, "a": false, "a=": false, "a=1": true, "a=1&a=2": true, "a=2&a=1": false, "b=1&a=1": true, "a=%31": false,
		"%61=1": false, "a=1=2": false, "A=1": false, "&a=1": true, "a&a=1": false, "x=?a=1": false, ";a=1": false,
	} {
		if m := (QueryMatcher{Name: "a", String: one}); m.Holds([]byte(query)) != want {
			t.Errorf("a=1 holds in %q: %v, want %v", query, !want, want)
		}
	}
}

func TestPickFollowsTheWeights(t *testing.T) {
	f := &Forward{Weighted: []WeightedCluster{{Name: "none"}, {Name: "a", Weight: 90}, {Name: "b", Weight: 10}}, TotalWeight: 100}
	for draw, want := range map[uint64]string{0: "a", 89: "a", 90: "b", 99: "b", 100: "a", 1<<64 - 1: "a"} {
		if got := f.Pick(draw); got.Name != want {
			t.Errorf("draw %d: %s, want %s", draw, got.Name, want)
		}
	}
	if (&Forward{}).Pick(1) != nil {
		t.Error("nothing to pick, and something was")
	}
}
