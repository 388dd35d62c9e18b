package snapshot

import (
	"slices"
	"strings"
)

// Fields is a header list, with pseudo-header fields. Name returns nil for a
// field that was deleted, and Get nil when there is no field of that name. Names
// are in lower case.
type Fields interface {
	Len() int
	Name(i int) []byte
	Value(i int) []byte
	Get(name string) []byte
}

// Input is what a route is chosen by.
type Input struct {
	Path    []byte // without the query
	Query   []byte // without its question mark
	Fields  Fields
	Draw    uint64 // one random number for all that a request draws, as in Envoy
	Runtime *Runtime
}

// few is up to how many routes are looked at one by one: so few are compared
// sooner than looked up, unless there are patterns among them.
const few = 8

func isFew(routes []*Route) bool {
	return len(routes) <= few && !slices.ContainsFunc(routes, func(r *Route) bool { return r.Match.Kind == PathRegex })
}

// Match returns the first route that takes in, or nil. It does not allocate.
func (h *VirtualHost) Match(in *Input) *Route {
	if h.few || h.routes == nil {
		return h.scan(in)
	}
	return h.find(in)
}

// scan looks at the routes one by one.
func (h *VirtualHost) scan(in *Input) *Route {
	for _, r := range h.Routes {
		if r.Match.Holds(in) {
			return r
		}
	}
	return nil
}

// find looks at those that the index leaves.
func (h *VirtualHost) find(in *Input) *Route {
	var c candidates
	if !c.collect(h.routes, in) {
		return h.scan(in)
	}
	for {
		i, ok := c.next()
		if !ok {
			return nil
		}
		if r := h.Routes[i]; r.Match.Holds(in) {
			return r
		}
	}
}

// Holds reports whether everything that m asks for holds.
func (m *RouteMatch) Holds(in *Input) bool {
	if !m.path(in.Path) {
		return false
	}
	for i := range m.Headers {
		if !m.Headers[i].Holds(in.Fields) {
			return false
		}
	}
	for i := range m.Query {
		if !m.Query[i].Holds(in.Query) {
			return false
		}
	}
	return m.Fraction == nil || m.Fraction.Holds(in.Runtime, in.Draw)
}

func (m *RouteMatch) path(p []byte) bool {
	if m.Kind == PathRegex {
		return m.Regex.Match(p) // Envoy's case_sensitive does not hold for these
	}
	n := len(m.Path)
	if len(p) < n || m.Kind == PathExact && len(p) != n ||
		m.Kind == PathSegmentPrefix && len(p) > n && p[n] != '/' {
		return false
	}
	if m.IgnoreCase {
		return equalFold(p[:n], m.Path)
	}
	return string(p[:n]) == m.Path
}

// maxLists is how many lists are merged. One request's path rarely has more than
// three configured prefixes.
const maxLists = 24

// candidates are the lists of the routes that may match, merged by number.
type candidates struct {
	lists [maxLists][]uint32
	n     int
	full  bool
}

func (c *candidates) add(l []uint32) {
	switch {
	case len(l) == 0:
	case c.n == len(c.lists):
		c.full = true
	default:
		c.lists[c.n] = l
		c.n++
	}
}

// next returns the lowest number that is left.
func (c *candidates) next() (int, bool) {
	at := -1
	for i := range c.n {
		if l := c.lists[i]; len(l) > 0 && (at < 0 || l[0] < c.lists[at][0]) {
			at = i
		}
	}
	if at < 0 {
		return 0, false
	}
	i := c.lists[at][0]
	c.lists[at] = c.lists[at][1:]
	return int(i), true
}

// collect finds the lists that can hold a match. It reports false when they are
// too many to be merged.
func (c *candidates) collect(x *routeIndex, in *Input) bool {
	for i := range x.paths {
		c.collectPaths(&x.paths[i], in, i == 1)
	}
	return !c.full
}

// collectPaths finds the list of the path and those of its prefixes, in one pass
// over it.
func (c *candidates) collectPaths(x *pathIndex, in *Input, fold bool) {
	last := max(x.exact.longest(), x.prefix.longest())
	sizes, h := x.prefix.sizes, hashStart
	for i := 0; i <= last; i++ {
		if len(sizes) > 0 && sizes[0] == i {
			sizes = sizes[1:]
			c.place(&x.prefix, h, in.Path[:i], fold, in.Fields)
		}
		if i == len(in.Path) {
			c.place(&x.exact, h, in.Path, fold, in.Fields)
			return
		}
		b := in.Path[i]
		if fold {
			b = lower(b)
		}
		h = h.add(b)
	}
}

func (p *places) longest() int {
	if len(p.sizes) == 0 {
		return -1
	}
	return p.sizes[len(p.sizes)-1]
}

// place adds what is listed under key.
func (c *candidates) place(p *places, h hash, key []byte, fold bool, f Fields) {
	n := p.find(h, key, fold)
	if n < 0 {
		return
	}
	l := &p.lists[n]
	c.add(l.plain)
	for i := range l.fields {
		c.field(&l.fields[i], f)
	}
}

// field adds what is listed under the values that f has of x's field.
func (c *candidates) field(x *byField, f Fields) {
	v := f.Get(x.name)
	if v == nil {
		return
	}
	c.value(x, v)
	if strings.HasPrefix(x.name, ":") {
		return
	}
	first := true
	for i := range f.Len() {
		if string(f.Name(i)) != x.name {
			continue
		}
		if !first {
			c.value(x, f.Value(i))
		}
		first = false
	}
}

func (c *candidates) value(x *byField, v []byte) {
	if n := x.values.find(hashOf(v), v, false); n >= 0 {
		c.add(x.lists[n])
	}
}

// Pick returns the weighted cluster that draw falls on, or nil when f has none.
func (f *Forward) Pick(draw uint64) *WeightedCluster {
	if len(f.Weighted) == 0 || f.TotalWeight == 0 {
		return nil
	}
	at := draw % uint64(f.TotalWeight)
	for i := range f.Weighted {
		w := uint64(f.Weighted[i].Weight)
		if at < w {
			return &f.Weighted[i]
		}
		at -= w
	}
	return &f.Weighted[len(f.Weighted)-1]
}
