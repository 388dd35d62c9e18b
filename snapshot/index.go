package snapshot

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// routeIndex finds the routes of a virtual host that can match a request, in the
// order in which they stand. Every route is in exactly one list:
//
//   - by what its path starts with or is: the path of an exact route, the prefix
//     of a prefix route, and the literal start of a regular expression;
//   - within long lists also by the value of one field, when the route wants
//     that field to be equal to something.
//
// What a list yields is only a candidate: the whole match is asked afterwards.
type routeIndex struct {
	routes   []*Route // what it was made of
	literals map[*regexp.Regexp]string
	paths    [2]pathIndex // case-sensitive, and not
}

// pathIndex is the lists of routes by path.
type pathIndex struct{ exact, prefix places }

// places are lists of routes by one string each.
type places struct {
	keyed
	sizes []int // of the keys, ascending, each once
	lists []list
}

// list is routes by number, ascending.
type list struct {
	plain  []uint32 // those that no field selects
	fields []byField
}

// indexRoutes returns an index for routes. It is old itself when that finds them
// just as well, which holds when no match changed.
func indexRoutes(routes []*Route, old *routeIndex) *routeIndex {
	if old != nil && slices.EqualFunc(old.routes, routes, foundAlike) {
		return old
	}
	x := &routeIndex{routes: routes}
	b := builder{x, routes}
	b.literals(old)
	b.fill()
	return x
}

// foundAlike reports whether an index may hold a where it holds b.
func foundAlike(a, b *Route) bool {
	if a == b {
		return true
	}
	m, n := &a.Match, &b.Match
	if m.Kind != n.Kind || m.Path != n.Path || m.IgnoreCase != n.IgnoreCase || m.Regex != n.Regex || len(m.Headers) != len(n.Headers) {
		return false
	}
	for i := range m.Headers {
		p, q := &m.Headers[i], &n.Headers[i]
		if p.selects() != q.selects() || p.selects() && (p.Name != q.Name || p.String.Value != q.String.Value) {
			return false
		}
	}
	return true
}

// selects reports whether only requests with one certain value of one field
// satisfy m, so that routes can be looked up by it.
func (m *HeaderMatcher) selects() bool {
	return m.String != nil && m.String.Kind == StringExact && !m.String.IgnoreCase &&
		!m.Invert && !m.MissingAsEmpty && m.Name != "host" && !joined(m.Name)
}

// builder makes an index.
type builder struct {
	index  *routeIndex
	routes []*Route
}

// literals finds out what the regular expressions' matches start with.
func (b *builder) literals(old *routeIndex) {
	for _, r := range b.routes {
		re := r.Match.Regex
		if r.Match.Kind != PathRegex || re == nil {
			continue
		}
		if b.index.literals == nil {
			b.index.literals = make(map[*regexp.Regexp]string)
		}
		if old != nil {
			if l, ok := old.literals[re]; ok {
				b.index.literals[re] = l
				continue
			}
		}
		b.index.literals[re] = literalStart(re.String())
	}
}

// place returns where r belongs, and under which key.
func (b *builder) place(r *Route) (in *places, key string) {
	m := &r.Match
	if m.Kind == PathRegex {
		return &b.index.paths[0].prefix, b.index.literals[m.Regex]
	}
	p, key := &b.index.paths[0], m.Path
	if m.IgnoreCase {
		p, key = &b.index.paths[1], lowerCase(m.Path)
	}
	if m.Kind == PathExact {
		return &p.exact, key
	}
	return &p.prefix, key
}

// fill puts every route into its list.
func (b *builder) fill() {
	for i := range b.index.paths {
		p := &b.index.paths[i]
		b.fillPlaces(&p.exact)
		b.fillPlaces(&p.prefix)
	}
}

func (b *builder) fillPlaces(in *places) {
	var items, owner []uint32
	for i, r := range b.routes {
		if p, _ := b.place(r); p == in {
			items = append(items, uint32(i))
		}
	}
	if len(items) == 0 {
		return
	}
	in.keyed = newKeyed(len(items))
	owner = make([]uint32, len(items))
	for i, n := range items {
		_, key := b.place(b.routes[n])
		owner[i] = uint32(in.put(hashOf(key), key))
	}
	in.lists = make([]list, len(in.keys))
	for i, l := range group(items, owner, len(in.keys)) {
		in.lists[i].plain = l
		if len(l) >= worthSelecting {
			in.lists[i].split(b.routes)
		}
	}
	seen := make(map[int]bool)
	for _, k := range in.keys {
		if !seen[len(k)] {
			seen[len(k)] = true
			in.sizes = append(in.sizes, len(k))
		}
	}
	slices.Sort(in.sizes)
}

// worthSelecting is how long a list must be before a look-up by field is
// cheaper than asking each of its routes.
const worthSelecting = 8

// group returns the items of each of n owners, in their order. The lists are cut
// from one array: making one for each of 10,000 paths would cost more than all
// else.
func group(items, owner []uint32, n int) [][]uint32 {
	end := make([]int, n)
	for _, o := range owner {
		end[o]++
	}
	room, out := make([]uint32, len(items)), make([][]uint32, n)
	for i, size := range end {
		out[i], room = room[:0:size], room[size:]
	}
	for i, o := range owner {
		out[o] = append(out[o], items[i])
	}
	return out
}

// literalStart returns what every match of a whole-string pattern starts with.
func literalStart(pattern string) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	out, _ := literalOf(re.Simplify())
	return out
}

// literalOf returns what every match of re starts with, and whether that is all
// that re matches.
func literalOf(re *syntax.Regexp) (start string, whole bool) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText:
		return "", true
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return "", false
		}
		if slices.Contains(re.Rune, utf8.RuneError) {
			return "", false // it matches every byte that is no UTF-8
		}
		return string(re.Rune), true
	case syntax.OpCapture:
		return literalOf(re.Sub[0])
	case syntax.OpPlus:
		start, _ = literalOf(re.Sub[0])
		return start, false
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			s, all := literalOf(sub)
			start += s
			if !all {
				return start, false
			}
		}
		return start, true
	default:
		return "", false
	}
}
