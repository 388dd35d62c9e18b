package compile

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// Numbers of the fields that are compiled piece by piece.
const (
	fieldVirtualHosts = 2 // of RouteConfiguration
	fieldRoutes       = 3 // of VirtualHost
)

// maxDirectBody is RouteConfiguration.max_direct_response_body_size_bytes' default.
const maxDirectBody = 4096

// keptTable is a route table with the bytes that its parts came from.
type keptTable struct {
	wire     []byte
	shell    []byte // all but the virtual hosts, canonical
	policies snapshot.Policies
	limit    int
	hosts    []*keptHost
	table    *snapshot.RouteTable
	named    map[string]int // how often the routes of table name a cluster; nobody changes it
	notes    Notes
}

// keptHost is a virtual host with the bytes that its parts came from.
type keptHost struct {
	wire   []byte
	shell  []byte // all but the routes, canonical
	host   *snapshot.VirtualHost
	routes []keptRoute
	notes  Notes
}

type keptRoute struct {
	wire  []byte
	route *snapshot.Route
	notes *Notes // nil: none
}

// routes compiles the route table in wire that stands at p. What old holds and
// wire still says is taken over. In a listener clusters are known to Envoy, so
// that it validates them by default: inside is that default.
func (r *review) routes(wire []byte, old *keptTable, p *at, inside bool) *keptTable {
	hosts, rest, ok := split(wire, fieldVirtualHosts, oldHosts(old))
	if !ok {
		r.fail(p, "", "does not decode as envoy.config.route.v3.RouteConfiguration")
		return nil
	}
	shell := new(routev3.RouteConfiguration)
	if !r.unmarshal(rest, shell, p) {
		return nil
	}
	k := &keptTable{wire: wire, shell: canonical(shell)}
	if !r.check(shell, p) {
		return nil
	}
	k.limit = maxDirectBody
	if m := shell.GetMaxDirectResponseBodySizeBytes(); m != nil {
		k.limit = int(m.GetValue())
	}
	k.policies = r.policies(shell.GetTypedPerFilterConfig(), shell.GetMetadata(), p)
	t := &snapshot.RouteTable{
		Name:         shell.GetName(),
		IgnorePort:   shell.GetIgnorePortInHostMatching(),
		Mutations:    r.mutations(shell, p),
		SpecificWins: shell.GetMostSpecificHeaderMutationsWins(),
		Validate:     inside,
	}
	if v := shell.GetValidateClusters(); v != nil {
		t.Validate = v.GetValue()
	}
	k.table, k.notes = t, r.notes
	r.hosts(k, old, hosts, p)
	if r.failed() {
		return nil
	}
	for _, h := range k.hosts {
		t.Hosts = append(t.Hosts, h.host)
		k.notes.add(&h.notes)
	}
	if old != nil && bytes.Equal(k.shell, old.shell) && slices.Equal(t.Hosts, old.table.Hosts) {
		k.table, k.named = old.table, old.named
		return k
	}
	var before *snapshot.RouteTable
	if old != nil {
		before = old.table
	}
	if old != nil {
		k.named = old.named
	}
	change := recount(t, before)
	t.Clusters = clusters(k.named, change, before)
	if err := t.Finish(before); err != nil {
		r.domain(err, t.Name, p)
		return nil
	}
	if k.named = maps.Clone(k.named); k.named == nil { // old may outlive k: what is around k can be refused
		k.named = make(map[string]int, len(change))
	}
	for name, n := range change {
		if k.named[name] += n; k.named[name] == 0 {
			delete(k.named, name)
		}
	}
	return k
}

func oldHosts(old *keptTable) int {
	if old == nil {
		return 0
	}
	return len(old.hosts)
}

// hosts compiles the virtual hosts of k. Those whose bytes old holds are its own.
func (r *review) hosts(k, old *keptTable, wires [][]byte, p *at) {
	k.hosts = make([]*keptHost, len(wires))
	var whole bool // a host of old can be taken over whole
	var byName map[string]*keptHost
	if old != nil && old.limit == k.limit {
		whole = reflect.DeepEqual(old.policies, k.policies)
		from := make([]int, len(wires))
		if whole {
			from = align(len(old.hosts), func(i int) []byte { return old.hosts[i].wire }, wires)
		}
		byName = make(map[string]*keptHost)
		for i := range wires {
			if whole && from[i] >= 0 {
				k.hosts[i] = old.hosts[from[i]]
			} else if len(byName) == 0 {
				for _, h := range old.hosts {
					byName[h.host.Name] = h
				}
			}
		}
	}
	for i, wire := range wires {
		if k.hosts[i] == nil {
			before := byName[NameIn(wire)]
			k.hosts[i] = r.host(wire, before, whole, k, p.i("virtual_hosts", i))
		}
	}
}

// host compiles one virtual host, taking over what old says just so; all of it
// when whole.
func (r *review) host(wire []byte, old *keptHost, whole bool, table *keptTable, p *at) *keptHost {
	var before []keptRoute
	if old != nil {
		before = old.routes
	}
	wires, rest, ok := split(wire, fieldRoutes, len(before))
	if !ok {
		r.fail(p, "", "does not decode as envoy.config.route.v3.VirtualHost")
		return nil
	}
	saved := r.notes
	defer func() { r.notes = saved }()
	r.notes = Notes{}
	shell := new(routev3.VirtualHost)
	if !r.unmarshal(rest, shell, p) {
		return nil
	}
	k := &keptHost{wire: wire, shell: canonical(shell)}
	if !r.check(shell, p) {
		return nil
	}
	k.host = &snapshot.VirtualHost{
		Name:                 shell.GetName(),
		Domains:              shell.GetDomains(),
		Mutations:            r.mutations(shell, p),
		Policies:             r.policies(shell.GetTypedPerFilterConfig(), shell.GetMetadata(), p).Over(table.policies),
		AttemptCount:         shell.GetIncludeRequestAttemptCount(),
		AttemptCountResponse: shell.GetIncludeAttemptCountInResponse(),
		TimeoutRetry:         shell.GetIncludeIsTimeoutRetryHeader(),
		Retry:                r.retry(shell.GetRetryPolicy(), p.f("retry_policy")),
	}
	k.notes = r.notes
	k.routes = r.list(wires, before, p, table.limit)
	if r.failed() {
		return nil
	}
	same := old != nil && whole && len(old.routes) == len(k.routes) && bytes.Equal(k.shell, old.shell)
	k.host.Routes = make([]*snapshot.Route, len(k.routes))
	var last *Notes
	for i := range k.routes {
		k.host.Routes[i] = k.routes[i].route
		same = same && k.routes[i].route == old.routes[i].route
		if n := k.routes[i].notes; n != nil && n != last {
			k.notes.add(n)
			last = n
		}
	}
	if same {
		k.host = old.host
	}
	return k
}

// list compiles the routes of a virtual host.
func (r *review) list(wires [][]byte, old []keptRoute, p *at, limit int) []keptRoute {
	out := make([]keptRoute, len(wires))
	from := align(len(old), func(i int) []byte { return old[i].wire }, wires)
	var canon map[string]int // of those of old that nobody took over, made when needed
	for i, wire := range wires {
		if from[i] >= 0 {
			out[i] = old[from[i]]
			out[i].wire = wire // so that the bytes of the whole last message can go
			continue
		}
		if canon == nil {
			canon = leftovers(old, from)
		}
		out[i] = r.one(wire, old, canon, p.i("routes", i), limit)
	}
	return out
}

// one compiles a route whose bytes are new, or finds it among the leftovers of
// old, written in another order.
func (r *review) one(wire []byte, old []keptRoute, canon map[string]int, p *at, limit int) keptRoute {
	m := new(routev3.Route)
	if !r.unmarshal(wire, m, p) {
		return keptRoute{}
	}
	if len(canon) > 0 {
		if i, ok := canon[string(canonical(m))]; ok {
			return keptRoute{wire, old[i].route, old[i].notes}
		}
	}
	saved := r.notes
	defer func() { r.notes = saved }()
	r.notes = Notes{}
	if !r.check(m, p) {
		return keptRoute{}
	}
	out := keptRoute{wire: wire, route: r.route(m, p, limit)}
	if !r.notes.empty() {
		out.notes = new(r.notes)
	}
	return out
}

// leftovers returns the routes of old that from does not name, by their
// canonical bytes.
func leftovers(old []keptRoute, from []int) map[string]int {
	taken := make([]bool, len(old))
	for _, i := range from {
		if i >= 0 {
			taken[i] = true
		}
	}
	out := make(map[string]int)
	for i := range old {
		if !taken[i] {
			m := new(routev3.Route)
			if proto.Unmarshal(old[i].wire, m) == nil {
				out[string(canonical(m))] = i
			}
		}
	}
	return out
}

// domain tells of a domain that stands in two places.
func (r *review) domain(err error, table string, p *at) {
	d, ok := errors.AsType[*snapshot.DomainError](err)
	if !ok {
		r.fail(p, "", "%v", err)
		return
	}
	p = p.i("virtual_hosts", d.Host).i("domains", d.Domain)
	if d.Value == "*" {
		r.fail(p, "", "Only a single wildcard domain is permitted in route %s", table)
		return
	}
	r.fail(p, "", "Only unique values for domains are permitted. Duplicate entry of domain %s in route %s", d.Value, table)
}

// recount returns how much more often the routes of t name each cluster than those
// of before do, which may be nil. It looks at the routes that are not the same.
func recount(t, before *snapshot.RouteTable) map[string]int {
	change := make(map[string]int)
	add := func(list []*snapshot.Route, n int) {
		for _, route := range list {
			f := route.Forward
			if f == nil {
				continue
			}
			if f.Cluster != "" {
				change[f.Cluster] += n
			}
			for i := range f.Weighted {
				if name := f.Weighted[i].Name; name != "" {
					change[name] += n
				}
			}
		}
	}
	var old []*snapshot.VirtualHost
	if before != nil {
		old = before.Hosts
	}
	was, is := trim(old, t.Hosts)
	for i := range max(len(was), len(is)) {
		var from, to []*snapshot.Route
		if i < len(was) {
			from = was[i].Routes
		}
		if i < len(is) {
			to = is[i].Routes
		}
		from, to = trim(from, to)
		add(from, -1)
		add(to, 1)
	}
	return change
}

// trim returns two lists without what they begin with and end with in common.
func trim[T comparable](a, b []T) (restA, restB []T) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// clusters lists what is named after a change of the counts in named, or returns
// before's list when it is the same.
func clusters(named, change map[string]int, before *snapshot.RouteTable) []string {
	var out []string
	if before != nil {
		out = before.Clusters
	}
	var fresh []string
	gone := make(map[string]bool)
	for name, n := range change {
		switch had := named[name]; {
		case had == 0 && n > 0:
			fresh = append(fresh, name)
		case had > 0 && had+n == 0:
			gone[name] = true
		}
	}
	if len(fresh)+len(gone) == 0 && before != nil {
		return out
	}
	next := make([]string, 0, len(out)+len(fresh))
	for _, name := range out {
		if len(gone) == 0 || !gone[name] {
			next = append(next, name)
		}
	}
	if len(fresh) > 0 {
		next = append(next, fresh...)
		slices.Sort(next)
	}
	return next
}
