package snapshot

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestAnIndexIsUsedAgainOnlyWhereItFinds changes one thing of one route and asks
// for what only the changed route takes.
func TestAnIndexIsUsedAgainOnlyWhereItFinds(t *testing.T) {
	equal := func(name, v string) HeaderMatcher {
		return HeaderMatcher{Name: name, String: &StringMatcher{Value: v}}
	}
	base := func() *VirtualHost {
		h := &VirtualHost{Name: "v", Domains: []string{"*"}}
		for i := range 12 {
			h.Routes = append(h.Routes, &Route{Match: RouteMatch{Path: "/a", Headers: []HeaderMatcher{equal("x", strconv.Itoa(i))}}})
		}
		h.Routes = append(h.Routes, &Route{Match: RouteMatch{Kind: PathRegex, Regex: regexp.MustCompile(`\A/r.*\z`)}})
		return h
	}
	const at = 5 // the route that changes; 12 is the pattern
	x5 := pairs{{"x", "5"}}
	for what, c := range map[string]struct {
		route int
		match RouteMatch
		in    Input
		same  bool // whether the index is used again
	}{
		"nothing":        {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{equal("x", "5")}}, Input{Path: []byte("/a"), Fields: x5}, true},
		"a query":        {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{equal("x", "5")}, Query: []QueryMatcher{{Name: "q"}}}, Input{Path: []byte("/a"), Query: []byte("q"), Fields: x5}, true},
		"kind":           {at, RouteMatch{Kind: PathExact, Path: "/a", Headers: []HeaderMatcher{equal("x", "5")}}, Input{Path: []byte("/a"), Fields: x5}, false},
		"path":           {at, RouteMatch{Path: "/b", Headers: []HeaderMatcher{equal("x", "5")}}, Input{Path: []byte("/b"), Fields: x5}, false},
		"case":           {at, RouteMatch{Path: "/a", IgnoreCase: true, Headers: []HeaderMatcher{equal("x", "5")}}, Input{Path: []byte("/A"), Fields: x5}, false},
		"value":          {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{equal("x", "new")}}, Input{Path: []byte("/a"), Fields: pairs{{"x", "new"}}}, false},
		"field":          {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{equal("y", "5")}}, Input{Path: []byte("/a"), Fields: pairs{{"y", "5"}}}, false},
		"inverted":       {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{{Name: "x", String: &StringMatcher{Value: "5"}, Invert: true}}}, Input{Path: []byte("/a"), Fields: pairs{{"x", "q"}}}, false},
		"a prefix of it": {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{{Name: "x", String: &StringMatcher{Kind: StringPrefix, Value: "5"}}}}, Input{Path: []byte("/a"), Fields: pairs{{"x", "55"}}}, false},
		"any case":       {at, RouteMatch{Path: "/a", Headers: []HeaderMatcher{{Name: "x", String: &StringMatcher{Value: "n", IgnoreCase: true}}}}, Input{Path: []byte("/a"), Fields: pairs{{"x", "N"}}}, false},
		"no headers":     {at, RouteMatch{Path: "/a"}, Input{Path: []byte("/a"), Fields: pairs{}}, false},
		"pattern":        {12, RouteMatch{Kind: PathRegex, Regex: regexp.MustCompile(`\A/s.*\z`)}, Input{Path: []byte("/s"), Fields: pairs{}}, false},
	} {
		h := base()
		prev := &RouteTable{Hosts: []*VirtualHost{h}}
		if err := prev.Finish(nil); err != nil {
			t.Fatal(err)
		}
		next := &VirtualHost{Name: "v", Domains: h.Domains, Routes: slices.Clone(h.Routes)}
		next.Routes[c.route] = &Route{Name: "changed", Match: c.match}
		if err := (&RouteTable{Hosts: []*VirtualHost{next}}).Finish(prev); err != nil {
			t.Fatal(err)
		}
		if got := matched(t, next, &c.in); got != next.Routes[c.route] {
			t.Errorf("%s changed: the route is not found, but %+v", what, got)
		}
		if same := next.routes == h.routes; same != c.same {
			t.Errorf("%s changed: the index is used again: %v, want %v", what, same, c.same)
		}
	}
}

func TestTheIndexOfAnEarlierTableFindsAddedAndRemovedRoutes(t *testing.T) {
	route := func(p string) *Route { return &Route{Name: p, Match: RouteMatch{Path: p}} }
	prev := &RouteTable{Hosts: []*VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: []*Route{route("/a"), route("/b")}}}}
	if err := prev.Finish(nil); err != nil {
		t.Fatal(err)
	}
	for _, routes := range [][]*Route{{route("/a"), route("/b"), route("/c")}, {route("/b")}, {route("/b"), route("/a")}, nil} {
		next := &RouteTable{Hosts: []*VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: routes}, {Name: "w", Domains: []string{"w"}, Routes: routes}}}
		if err := next.Finish(prev); err != nil {
			t.Fatal(err)
		}
		for _, h := range next.Hosts {
			for _, p := range []string{"/a", "/b", "/c"} {
				in := &Input{Path: []byte(p), Fields: pairs{}}
				if got, want := matched(t, h, in), oracle(h, in); got != want {
					t.Errorf("%s among %d routes: %v, want %v", p, len(routes), got, want)
				}
			}
		}
	}
}

// TestLongListsOfOddFields: fields that are joined, and host, which is also
// called :authority, are not looked up by one value.
func TestLongListsOfOddFields(t *testing.T) {
	h := &VirtualHost{Domains: []string{"*"}}
	for i := range 2 * worthSelecting {
		for _, name := range []string{"user-agent", "host"} {
			h.Routes = append(h.Routes, &Route{Match: RouteMatch{Headers: []HeaderMatcher{{Name: name, String: &StringMatcher{Value: "a," + strconv.Itoa(i)}}}}})
		}
	}
	if err := (&RouteTable{Hosts: []*VirtualHost{h}}).Finish(nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range []pairs{{{"user-agent", "a"}, {"user-agent", "9"}}, {{":authority", "a,9"}}, {{"user-agent", "a"}}} {
		in := &Input{Fields: f}
		if got, want := matched(t, h, in), oracle(h, in); got != want {
			t.Errorf("%v: %+v, want %+v", f, got, want)
		}
	}
}
