package snapshot

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
)

// manyRoutes are the ways in which 10,000 routes of one virtual host differ.
var manyRoutes = map[string]func(i int) (RouteMatch, *Input){
	"exact": func(i int) (RouteMatch, *Input) {
		p := fmt.Sprintf("/service-%05d/v1/query", i)
		return RouteMatch{Kind: PathExact, Path: p}, &Input{Path: []byte(p)}
	},
	"prefix": func(i int) (RouteMatch, *Input) {
		p := fmt.Sprintf("/service-%05d/", i)
		return RouteMatch{Path: p}, &Input{Path: []byte(p + "v1/query")}
	},
	"folded": func(i int) (RouteMatch, *Input) {
		p := fmt.Sprintf("/Service-%05d", i)
		return RouteMatch{Kind: PathSegmentPrefix, Path: p, IgnoreCase: true}, &Input{Path: []byte(p + "/v1/query")}
	},
	"regex": func(i int) (RouteMatch, *Input) {
		p := fmt.Sprintf("/service-%05d/", i)
		return RouteMatch{Kind: PathRegex, Regex: regexp.MustCompile(`\A(?:` + p + `[a-z0-9/]+)\z`)}, &Input{Path: []byte(p + "v1/query")}
	},
	"header": func(i int) (RouteMatch, *Input) {
		v := fmt.Sprintf("tenant-%05d", i)
		m := RouteMatch{Path: "/", Headers: []HeaderMatcher{
			{Name: ":method", String: &StringMatcher{Value: "GET"}},
			{Name: "x-tenant", String: &StringMatcher{Value: v}},
		}}
		return m, &Input{Path: []byte("/v1/query"), Fields: newList(
			":method", "GET", ":path", "/v1/query", ":authority", "a", "accept", "*/*", "user-agent", "curl", "x-tenant", v, "x-request-id", "1")}
	},
	"prefix, header, query": func(i int) (RouteMatch, *Input) {
		v, p := fmt.Sprintf("tenant-%05d", i), fmt.Sprintf("/v%d/", i%100)
		return RouteMatch{Path: p, Headers: []HeaderMatcher{{Name: "x-tenant", String: &StringMatcher{Value: v}}}, Query: []QueryMatcher{{Name: "q"}}},
			&Input{Path: []byte(p + "query"), Query: []byte("a=1&q=2"), Fields: newList(":method", "GET", "accept", "*/*", "x-tenant", v)}
	},
}

// list is a header list that does not allocate.
type headerList struct{ names, values [][]byte }

func newList(pairs ...string) *headerList {
	l := new(headerList)
	for i := 0; i < len(pairs); i += 2 {
		l.names, l.values = append(l.names, []byte(pairs[i])), append(l.values, []byte(pairs[i+1]))
	}
	return l
}

func (l *headerList) Len() int           { return len(l.names) }
func (l *headerList) Name(i int) []byte  { return l.names[i] }
func (l *headerList) Value(i int) []byte { return l.values[i] }

func (l *headerList) Get(name string) []byte {
	for i, n := range l.names {
		if string(n) == name {
			return l.values[i]
		}
	}
	return nil
}

func manyHosts(kind string, n int) (*VirtualHost, []*Input) {
	h := &VirtualHost{Name: "v", Domains: []string{"*"}}
	inputs := make([]*Input, n)
	for i := range n {
		m, in := manyRoutes[kind](i)
		h.Routes, inputs[i] = append(h.Routes, &Route{Match: m}), in
	}
	return h, inputs
}

// BenchmarkMatch: the last of 10,000 routes costs what the first does.
func BenchmarkMatch(b *testing.B) {
	for kind := range manyRoutes {
		h, inputs := manyHosts(kind, 10_000)
		if err := (&RouteTable{Hosts: []*VirtualHost{h}}).Finish(nil); err != nil {
			b.Fatal(err)
		}
		for name, at := range map[string]int{"first": 0, "last": len(h.Routes) - 1} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if h.Match(inputs[at]) != h.Routes[at] {
						b.Fatal("another route")
					}
				}
			})
		}
	}
}

// BenchmarkFinish: what a changed table of 10,000 routes costs.
func BenchmarkFinish(b *testing.B) {
	for kind := range manyRoutes {
		h, _ := manyHosts(kind, 10_000)
		prev := &RouteTable{Hosts: []*VirtualHost{h}}
		if err := prev.Finish(nil); err != nil {
			b.Fatal(err)
		}
		other := *h.Routes[5000]
		changed, added := slices.Clone(h.Routes), slices.Clone(h.Routes)
		changed[5000] = &other
		added = append(added, &Route{Match: RouteMatch{Path: "/added"}})
		for name, c := range map[string]struct {
			routes []*Route
			prev   *RouteTable
		}{"new": {h.Routes, nil}, "a route changed": {changed, prev}, "a route added": {added, prev}} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				for b.Loop() {
					t := &RouteTable{Hosts: []*VirtualHost{{Name: "v", Domains: h.Domains, Routes: c.routes}}}
					if err := t.Finish(c.prev); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for kind := range manyRoutes {
		h, inputs := manyHosts(kind, 100)
		table := &RouteTable{Hosts: []*VirtualHost{h, {Name: "w", Domains: []string{"*.com"}}}}
		if err := table.Finish(nil); err != nil {
			t.Fatal(err)
		}
		in, authority := inputs[99], []byte("Example.ORG:80")
		h.Match(in) // a pattern's machine is made once
		if n := testing.AllocsPerRun(100, func() {
			_ = table.Host(authority).Match(&Input{Path: in.Path, Query: in.Query, Fields: in.Fields})
		}); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
	f := newList("user-agent", "a", "user-agent", "b")
	m := &HeaderMatcher{Name: "user-agent", String: &StringMatcher{Value: "a,b"}}
	if n := testing.AllocsPerRun(100, func() {
		if !m.Holds(f) {
			t.Fatal("joined values do not match")
		}
	}); n != 0 {
		t.Errorf("joining: %v allocations", n)
	}
}
