package compile

import (
	"bytes"
	"reflect"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// Compiler turns wire bytes into parts of a snapshot. It keeps what it compiled
// last under each name, so that what did not change stays the same pointer. One
// goroutine at a time.
type Compiler struct {
	// Strict makes field numbers that are not known errors.
	Strict bool

	listeners   map[string]*kept[*snapshot.Listener]
	clusters    map[string]*kept[*snapshot.ClusterSettings]
	assignments map[string]*kept[*snapshot.Assignment]
	tables      map[string]*keptTable            // by name
	inline      map[string]map[string]*keptTable // by the listener's name and the chain's
	secrets     map[string]*kept[*snapshot.Secret]
}

// New returns a Compiler that keeps nothing yet.
func New() *Compiler {
	return &Compiler{
		listeners:   make(map[string]*kept[*snapshot.Listener]),
		clusters:    make(map[string]*kept[*snapshot.ClusterSettings]),
		assignments: make(map[string]*kept[*snapshot.Assignment]),
		tables:      make(map[string]*keptTable),
		inline:      make(map[string]map[string]*keptTable),
		secrets:     make(map[string]*kept[*snapshot.Secret]),
	}
}

// kept is what was compiled last under a name.
type kept[T any] struct {
	wire  []byte
	canon []byte // nil until somebody had to compare
	value T
	notes Notes
	tls   sockets
}

// same reports whether canon says what k says. blank is a message to decode into.
func (k *kept[T]) same(canon []byte, blank proto.Message) bool {
	if k.canon == nil && proto.Unmarshal(k.wire, blank) == nil {
		k.canon = canonical(blank)
	}
	return canon != nil && bytes.Equal(canon, k.canon)
}

// The types of resources, as errors call them.
const (
	typeListener   = "listener"
	typeTable      = "route table"
	typeCluster    = "cluster"
	typeAssignment = "assignment"
	typeRuntime    = "runtime layer"
	typeSecret     = "secret"
)

// Listener compiles an envoy.config.listener.v3.Listener.
func (c *Compiler) Listener(wire []byte) (_ *snapshot.Listener, _ Notes, err error) {
	name := NameIn(wire)
	defer rescue(typeListener, name, c.ForgetListener, &err)
	old := c.listeners[name]
	if old != nil && bytes.Equal(old.wire, wire) {
		return old.value, old.notes, nil
	}
	r, m := c.review(typeListener, name), new(listenerv3.Listener)
	if !r.unmarshal(wire, m, nil) {
		return nil, r.notes, r.err()
	}
	canon := canonical(m)
	if old != nil && old.same(canon, new(listenerv3.Listener)) {
		old.wire = wire
		return old.value, old.notes, nil
	}
	var before *snapshot.Listener
	if old != nil {
		before, r.secured = old.value, old.tls
	}
	l := &listening{review: r, out: &snapshot.Listener{Name: name, Keys: snapshot.DefaultKeys()}, kept: c.inline[name]}
	if r.check(m, nil) {
		l.listener(m)
	}
	if r.failed() {
		return nil, r.notes, r.err()
	}
	out := l.out
	if before != nil && sameListener(out, before) {
		out = before
	}
	if delete(c.inline, name); l.keeps != nil {
		c.inline[name] = l.keeps
	}
	c.listeners[name] = &kept[*snapshot.Listener]{wire, canon, out, r.notes, r.secures}
	return out, r.notes, nil
}

// sameListener compares routes by pointer and all else by value.
func sameListener(a, b *snapshot.Listener) bool {
	x, y := *a, *b
	if x.Inline != y.Inline || len(x.Chains) != len(y.Chains) {
		return false
	}
	for i, c := range x.Chains {
		if d := y.Chains[i]; c.Name != d.Name || !reflect.DeepEqual(c.Match, d.Match) || !sameListener(c.Listener, d.Listener) {
			return false
		}
	}
	x.Inline, y.Inline = nil, nil
	x.Chains, y.Chains = nil, nil
	return reflect.DeepEqual(&x, &y)
}

// Routes compiles an envoy.config.route.v3.RouteConfiguration. It costs what
// changed since the last one of the same name.
func (c *Compiler) Routes(wire []byte) (_ *snapshot.RouteTable, _ Notes, err error) {
	name := NameIn(wire)
	defer rescue(typeTable, name, c.Forget, &err)
	old := c.tables[name]
	if old != nil && bytes.Equal(old.wire, wire) {
		return old.table, old.notes, nil
	}
	r := c.review(typeTable, name)
	k := r.routes(wire, old, nil, false)
	if r.failed() {
		return nil, r.notes, r.err()
	}
	c.tables[name] = k
	return k.table, k.notes, nil
}

// Cluster compiles an envoy.config.cluster.v3.Cluster.
func (c *Compiler) Cluster(wire []byte) (_ *snapshot.ClusterSettings, _ Notes, err error) {
	name := NameIn(wire)
	defer rescue(typeCluster, name, c.ForgetCluster, &err)
	old := c.clusters[name]
	if old != nil && bytes.Equal(old.wire, wire) {
		return old.value, old.notes, nil
	}
	r, m := c.review(typeCluster, name), new(clusterv3.Cluster)
	if !r.unmarshal(wire, m, nil) {
		return nil, r.notes, r.err()
	}
	canon := canonical(m)
	if old != nil && old.same(canon, new(clusterv3.Cluster)) {
		old.wire = wire
		return old.value, old.notes, nil
	}
	if old != nil {
		r.secured = old.tls
	}
	var out *snapshot.ClusterSettings
	if r.check(m, nil) {
		out = r.cluster(m)
	}
	if r.failed() {
		return nil, r.notes, r.err()
	}
	if old != nil {
		if reflect.DeepEqual(out.Static, old.value.Static) {
			out.Static = old.value.Static
		}
		if reflect.DeepEqual(out, old.value) {
			out = old.value
		}
	}
	c.clusters[name] = &kept[*snapshot.ClusterSettings]{wire, canon, out, r.notes, r.secures}
	return out, r.notes, nil
}

// Assignment compiles an envoy.config.endpoint.v3.ClusterLoadAssignment and
// returns it with its name.
func (c *Compiler) Assignment(wire []byte) (name string, _ *snapshot.Assignment, _ Notes, err error) {
	name = NameIn(wire)
	defer rescue(typeAssignment, name, c.ForgetAssignment, &err)
	old := c.assignments[name]
	if old != nil && bytes.Equal(old.wire, wire) {
		return name, old.value, old.notes, nil
	}
	r, m := c.review(typeAssignment, name), new(endpointv3.ClusterLoadAssignment)
	if !r.unmarshal(wire, m, nil) {
		return name, nil, r.notes, r.err()
	}
	canon := canonical(m)
	if old != nil && old.same(canon, new(endpointv3.ClusterLoadAssignment)) {
		old.wire = wire
		return name, old.value, old.notes, nil
	}
	var out *snapshot.Assignment
	if r.check(m, nil) {
		out = r.assignment(m, nil, false)
	}
	if r.failed() {
		return name, nil, r.notes, r.err()
	}
	if old != nil && reflect.DeepEqual(out, old.value) {
		out = old.value
	}
	c.assignments[name] = &kept[*snapshot.Assignment]{wire, canon, out, r.notes, nil}
	return name, out, r.notes, nil
}

// Runtime compiles an envoy.service.runtime.v3.Runtime.
func (c *Compiler) Runtime(wire []byte) (_ snapshot.RuntimeLayer, _ Notes, err error) {
	name := NameIn(wire)
	defer rescue(typeRuntime, name, func(string) {}, &err)
	r, m := c.review(typeRuntime, name), new(runtimev3.Runtime)
	var out snapshot.RuntimeLayer
	if r.unmarshal(wire, m, nil) && r.check(m, nil) {
		out = r.runtime(m)
	}
	return out, r.notes, r.err()
}

// Forget drops what is kept of a route table.
func (c *Compiler) Forget(table string) { delete(c.tables, table) }

// ForgetListener drops what is kept of a listener.
func (c *Compiler) ForgetListener(name string) {
	delete(c.listeners, name)
	delete(c.inline, name)
}

// ForgetCluster drops what is kept of a cluster.
func (c *Compiler) ForgetCluster(name string) { delete(c.clusters, name) }

// ForgetAssignment drops what is kept of an assignment.
func (c *Compiler) ForgetAssignment(name string) { delete(c.assignments, name) }

func (c *Compiler) review(typ, name string) *review {
	return &review{typ: typ, name: name, strict: c.Strict}
}

// NameIn returns the last value of field 1, which is the name of everything that
// is compiled here, without decoding the rest.
func NameIn(wire []byte) string {
	var out []byte
	for len(wire) > 0 {
		num, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			break
		}
		m := protowire.ConsumeFieldValue(num, typ, wire[n:])
		if m < 0 {
			break
		}
		if num == 1 && typ == protowire.BytesType {
			out, _ = protowire.ConsumeBytes(wire[n:])
		}
		wire = wire[n+m:]
	}
	return string(out)
}
