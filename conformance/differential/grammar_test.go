package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// grammar draws route tables and requests. Every route answers by itself and
// says its name in a response field.
type grammar struct{ *rand.Rand }

func (g grammar) pick(of ...string) string { return of[g.IntN(len(of))] }

var (
	segments = []string{"a", "b", "ab", "A", "api", "v1", "", "a.b", "x%2Fy", "1", "22"}
	values   = []string{"one", "two", "One", "on", "one-two", "", "5", "-3", "12", "abc", "one,two"}
	keys     = []string{"x-a", "x-b", "x-c"}
	params   = []string{"k", "j", "K"}
	domains  = []string{`"*"`, "a.example", "b.example", `"*.example"`, `"*-x.example"`, `"a.*"`, `"a.b.*"`, "A.Example", `"a.example:8080"`, `"[::1]"`, `"*.b.example"`}
	hostsOf  = []string{"a.example", "b.example", "c.example", "y-x.example", "a.b", "a.b.c", "A.EXAMPLE", "a.example:8080", "z", "x.b.example", "[::1]", "a.example:1", "b.example:80"}
)

func (g grammar) path() string {
	var b strings.Builder
	for range 1 + g.IntN(3) {
		b.WriteString("/" + g.pick(segments...))
	}
	return b.String()
}

// rule is one route: match is the inside of its RouteMatch, part by part, so
// that a shrinker can leave parts out.
type rule struct {
	path string
	more []string
}

type vhost struct {
	domains []string
	rules   []rule
}

// drawn is a whole table.
type drawn struct {
	ignorePort bool
	hosts      []vhost
}

func (g grammar) str() string {
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf("exact: %q", g.pick(values...))
	case 1:
		return fmt.Sprintf("prefix: %q", g.pick("o", "on", "one", "1", "-"))
	case 2:
		return fmt.Sprintf("suffix: %q", g.pick("e", "two", "wo", "2"))
	case 3:
		return fmt.Sprintf("contains: %q", g.pick("n", "e-t", "b", ","))
	case 4:
		return fmt.Sprintf("safe_regex: {regex: %q}", g.pick("[a-z]+", "one|two", "-?[0-9]+", "(?i)ONE", ".*", "o.*e", "[^o].*"))
	default:
		return fmt.Sprintf("exact: %q, ignore_case: true", g.pick("ONE", "Two", "abc"))
	}
}

func (g grammar) rule() rule {
	var r rule
	switch g.IntN(10) {
	case 0, 1, 2:
		r.path = fmt.Sprintf("prefix: %q", g.pick("/", g.path(), g.path()+"/"))
	case 3, 4, 5:
		r.path = fmt.Sprintf("path: %q", g.path())
	case 6, 7:
		p := strings.TrimRight(g.path(), "/")
		if p == "" || strings.Contains(p, "//") {
			p = "/a"
		}
		r.path = fmt.Sprintf("path_separated_prefix: %q", p)
	default:
		r.path = fmt.Sprintf("safe_regex: {regex: %q}", g.pick("/a/.*", "/[ab]+", "/api/v[0-9]+(/.*)?", ".*1", "/.*/b", "(?i)/API/.*", "/a/?"))
	}
	if !strings.HasPrefix(r.path, "safe") && g.IntN(4) == 0 {
		r.path += ", case_sensitive: false"
	}
	for g.IntN(3) == 0 {
		flags := ""
		if g.IntN(3) == 0 {
			flags += ", invert_match: true"
		}
		if g.IntN(4) == 0 {
			flags += ", treat_missing_header_as_empty: true"
		}
		name := g.pick(append([]string{`":method"`, `":path"`, `":authority"`}, keys...)...)
		switch g.IntN(5) {
		case 0:
			r.more = append(r.more, fmt.Sprintf("h{name: %s, present_match: %s%s}", name, g.pick("true", "false"), flags))
		case 1:
			r.more = append(r.more, fmt.Sprintf("h{name: %s, range_match: {start: %s, end: %s}%s}", name, g.pick("-5", "0", "5"), g.pick("6", "13"), flags))
		default:
			r.more = append(r.more, fmt.Sprintf("h{name: %s, string_match: {%s}%s}", name, g.str(), flags))
		}
	}
	for g.IntN(4) == 0 {
		if g.IntN(3) == 0 {
			r.more = append(r.more, fmt.Sprintf("q{name: %s, present_match: %s}", g.pick(params...), g.pick("true", "false")))
		} else {
			r.more = append(r.more, fmt.Sprintf("q{name: %s, string_match: {%s}}", g.pick(params...), g.str()))
		}
	}
	if g.IntN(12) == 0 {
		r.more = append(r.more, "f{default_value: {numerator: "+g.pick("0", "100")+"}}")
	}
	return r
}

func (g grammar) table() drawn {
	d := drawn{ignorePort: g.IntN(3) == 0}
	left := slices.Clone(domains)
	if d.ignorePort { // a port in a domain then matches nothing
		left = slices.DeleteFunc(left, func(s string) bool { return strings.Contains(s, ":8080") })
	}
	g.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	seen := make(map[string]bool)
	for range 1 + g.IntN(4) {
		var h vhost
		for range 1 + g.IntN(2) {
			if len(left) > 0 {
				if low := strings.ToLower(left[0]); !seen[low] {
					seen[low] = true
					h.domains = append(h.domains, left[0])
				}
				left = left[1:]
			}
		}
		if len(h.domains) == 0 {
			continue
		}
		for range 1 + g.IntN(25) {
			h.rules = append(h.rules, g.rule())
		}
		d.hosts = append(d.hosts, h)
	}
	return d
}

// yaml returns the table as a RouteConfiguration.
func (d drawn) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ignore_port_in_host_matching: %v\nvirtual_hosts:\n", d.ignorePort)
	for i, h := range d.hosts {
		fmt.Fprintf(&b, "- name: v%d\n  domains: [%s]\n  routes:\n", i, strings.Join(h.domains, ", "))
		for j, r := range h.rules {
			var headers, query []string
			fraction := ""
			for _, m := range r.more {
				switch m[0] {
				case 'h':
					headers = append(headers, m[1:])
				case 'q':
					query = append(query, m[1:])
				default:
					fraction = ", runtime_fraction: " + m[1:]
				}
			}
			fmt.Fprintf(&b, "  - {match: {%s, headers: [%s], query_parameters: [%s]%s}, direct_response: {status: 200}, response_headers_to_add: [{header: {key: x-route, value: v%d.%d}}]}\n",
				r.path, strings.Join(headers, ", "), strings.Join(query, ", "), fraction, i, j)
		}
	}
	return b.String()
}

func (g grammar) request() *request {
	target := g.path()
	if g.IntN(4) == 0 {
		target = strings.ToUpper(target)
	}
	if g.IntN(3) == 0 {
		var asks []string
		for range 1 + g.IntN(3) {
			ask := g.pick(params...)
			if g.IntN(4) > 0 {
				ask += "=" + g.pick(values...)
			}
			asks = append(asks, ask)
		}
		target += "?" + strings.Join(asks, "&")
	}
	r := get(target).on(g.pick(hostsOf...))
	if g.IntN(4) == 0 {
		r.method = "POST"
	}
	for g.IntN(2) == 0 {
		r.h(g.pick(keys...), g.pick(values...))
	}
	r.h1 = g.IntN(5) == 0
	return r
}

// chosen is which route answered.
func (x *proxy) chosen(t *testing.T, r *request) string {
	t.Helper()
	a := x.send(t, r)
	if a.err != "" {
		return "error " + class(a.err)
	}
	return itoa(a.status) + " " + a.header.Get("X-Route")
}

// TestDrawnRoutes compares the chosen route over drawn tables and requests. A
// difference is made smaller before it is told.
func TestDrawnRoutes(t *testing.T) {
	const perTable = 200 // requests
	seed := uint64(20261122)
	tables := soak(2000, 25_000) / perTable
	t.Logf("seed %d, %d tables, %d requests each", seed, tables, perTable)
	g := grammar{rand.New(rand.NewPCG(seed, 9))}
	s := newStand(t, "DELTA_GRPC")
	answered := make(map[string]int)
	for range tables {
		d := g.table()
		s.fresh(t)
		if !s.taken(t, d) {
			continue
		}
		for range perTable {
			r := g.request()
			e, o := s.envoy.chosen(t, r), s.ours.chosen(t, r)
			answered[e[:3]]++
			if e == o {
				continue
			}
			d, e, o = s.shrink(t, d, r, e, o)
			t.Errorf("%v: Envoy chooses %q, quadnine %q, of\n%s", r, e, o, d.yaml())
			break
		}
		if t.Failed() && !testing.Verbose() {
			break
		}
	}
	t.Logf("answers: %v", answered)
	if answered["200"] == 0 || answered["404"] == 0 {
		t.Errorf("the requests are one-sided: %v", answered)
	}
}

// fresh gives both a new listener.
func (s *stand) fresh(t *testing.T) {
	t.Helper()
	s.seq++
	s.name = "drawn routes"
	a := addrs(t, 2)
	for i, x := range s.both() {
		if x.h2 != nil {
			x.h2.CloseIdleConnections()
			x.h1.CloseIdleConnections()
		}
		x.point(t, a[i])
	}
}

// taken pushes a drawn table; false when both refuse it.
func (s *stand) taken(t *testing.T, d drawn) bool {
	t.Helper()
	refused := make(map[string]string)
	for k, v := range s.push(t, step{part: part{table: d.yaml()}}) {
		if !v.ok {
			refused[k.node] = v.text
		}
	}
	if (refused["envoy"] == "") != (refused["quadnine"] == "") {
		t.Errorf("Envoy says %q, quadnine %q of\n%s", refused["envoy"], refused["quadnine"], d.yaml())
	}
	return len(refused) == 0
}

// shrink leaves out of a table whatever the difference does not need.
func (s *stand) shrink(t *testing.T, d drawn, r *request, e, o string) (drawn, string, string) {
	t.Helper()
	try := func(smaller drawn) bool {
		if !s.taken(t, smaller) {
			return false
		}
		e2, o2 := s.envoy.chosen(t, r), s.ours.chosen(t, r)
		if e2 == o2 {
			return false
		}
		d, e, o = smaller, e2, o2
		return true
	}
	for progress := true; progress; {
		progress = false
		for i := len(d.hosts) - 1; i >= 0 && len(d.hosts) > 1; i-- {
			c := d.clone()
			c.hosts = slices.Delete(c.hosts, i, i+1)
			progress = try(c) || progress
		}
		for i := range d.hosts {
			for j := len(d.hosts[i].rules) - 1; j >= 0; j-- {
				c := d.clone()
				c.hosts[i].rules = slices.Delete(c.hosts[i].rules, j, j+1)
				if try(c) {
					progress = true
					continue
				}
				for k := range slices.Backward(d.hosts[i].rules[j].more) {
					c := d.clone()
					c.hosts[i].rules[j].more = slices.Delete(c.hosts[i].rules[j].more, k, k+1)
					progress = try(c) || progress
				}
			}
		}
	}
	return d, e, o
}

func (d drawn) clone() drawn {
	d.hosts = slices.Clone(d.hosts)
	for i := range d.hosts {
		d.hosts[i].rules = slices.Clone(d.hosts[i].rules)
		for j := range d.hosts[i].rules {
			d.hosts[i].rules[j].more = slices.Clone(d.hosts[i].rules[j].more)
		}
	}
	return d
}
