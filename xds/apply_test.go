package xds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
)

// TestApply plays the scripts in testdata/apply. A line is one or more events,
// ----, and what the data plane serves afterwards: how many snapshots it was
// given, each listener with its clusters, and all clusters with their endpoints;
// in brackets what was rejected and what of the resources is not active.
// UPDATE=1 writes what happens into them.
//
//	cds|eds|lds|rds|rtds VERSION RESOURCE…    a SotW response
//	+cds|+eds|… VERSION RESOURCE… -NAME…      a delta response
//	gone API NAME, missing API NAME           a server or a timeout says it has none
//	use NAME, idle NAME                       exchanges run on a cluster, or do not
//	busy ADDRESS, free ADDRESS                another process listens there
//	unlogged ADDRESS                          the access log of the listener there cannot be opened
//	dns NAME ADDRESS,…|fail                   what a name resolves to from now on
//	advance D, restart, damage, set K=V
//
// Resources: cluster NAME=eds[:SERVICE]|static:ADDRESS|dns:HOST:PORT, endpoints
// NAME=ADDRESS,…, listener NAME=ADDRESS/rds:TABLE|ADDRESS/CLUSTER,…, routes
// NAME=CLUSTER,…, runtime NAME=K:V. NAME=bad:WHY is not valid, "!" after clusters
// is validate_clusters, "@1s" after a table or an EDS cluster is its
// initial_fetch_timeout, and "~" at the end makes other bytes of the same meaning.
func TestApply(t *testing.T) {
	scripts, err := filepath.Glob("testdata/apply/*.txt")
	if err != nil || len(scripts) < 5 {
		t.Fatal(scripts, err)
	}
	for _, name := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(name)
			must(t, err)
			synctest.Test(t, func(t *testing.T) {
				got := play(t, string(b))
				if os.Getenv("UPDATE") != "" {
					must(t, os.WriteFile(name, []byte(got), 0o600))
				} else if got != string(b) {
					t.Errorf("%s:\n%s\nwant:\n%s", name, got, b)
				}
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is an Applier between a fake server and a fake data plane.
type rig struct {
	*testing.T
	*Applier
	plane    *plane
	names    *resolver
	dir      string
	options  func(*ApplierOptions)
	rejected []string
	compiled *words
	resubs   atomic.Int64
}

func newRig(t *testing.T, options func(*ApplierOptions)) *rig {
	t.Helper()
	r := &rig{T: t, plane: newPlane(), names: &resolver{found: make(map[string][]netip.Addr)}, dir: t.TempDir(), options: options}
	r.open()
	return r
}

func (r *rig) open() {
	r.Helper()
	r.compiled = new(words)
	o := ApplierOptions{
		Plane: r.plane, Compiler: r.compiled, Dynamic: Kinds(), StateDir: r.dir, Resolver: r.names, Log: slog.New(slog.DiscardHandler),
		Layers: []Layer{{Name: "base", Values: map[string]string{"k": "0"}}, {Name: "server", RTDS: "rt"}, {Name: "admin", Admin: true}},
	}
	if r.options != nil {
		r.options(&o)
	}
	r.Applier = NewApplier(o)
	r.OnWanted(func() { r.resubs.Add(1) })
	must(r.T, r.Start())
}

func play(t *testing.T, script string) string {
	t.Helper()
	r := newRig(t, nil)
	defer func() { must(t, r.Close()) }()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		events, _, _ := strings.Cut(line, "----")
		events = strings.TrimRight(events, " ")
		if events == "" || events[0] == '#' {
			fmt.Fprintln(&out, line)
			continue
		}
		for e := range strings.SplitSeq(events, " · ") {
			r.do(strings.Fields(e))
			synctest.Wait()
		}
		fmt.Fprintf(&out, "%-46s ---- %s\n", events, r.status())
	}
	return out.String()
}

var kindByWord = map[string]Kind{"cds": KindCluster, "eds": KindEndpoints, "lds": KindListener, "rds": KindRoutes, "rtds": KindRuntime}

func (r *rig) do(w []string) {
	r.Helper()
	arg := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	switch verb, incremental := strings.CutPrefix(w[0], "+"); verb {
	case "cds", "eds", "lds", "rds", "rtds":
		u := Update{Kind: kindByWord[verb], Variant: VariantSotw, Version: arg(1), Nonce: "n"}
		if incremental {
			u.Variant = VariantDelta
		}
		for _, res := range w[2:] {
			if name, removed := strings.CutPrefix(res, "-"); removed {
				u.Removed = append(u.Removed, name)
				continue
			}
			name, _, _ := strings.Cut(res, "=")
			u.Resources = append(u.Resources, Resource{Name: name, Version: u.Version, Body: []byte(res)})
		}
		r.update(u)
	case "gone":
		r.update(Update{Kind: kindByWord[w[1]], Variant: VariantDelta, Removed: w[2:]})
	case "missing":
		r.Missing(kindByWord[w[1]], arg(2))
	case "use":
		r.plane.set(func(p *plane) { p.used[w[1]] = true })
	case "idle":
		r.plane.set(func(p *plane) { delete(p.used, w[1]) })
	case "unlogged":
		r.plane.set(func(p *plane) { p.unlogged = w[1] })
	case "busy":
		r.plane.set(func(p *plane) { p.busy[w[1]] = true })
	case "free":
		r.plane.set(func(p *plane) { delete(p.busy, w[1]) })
	case "dns":
		r.names.set(w[1], w[2])
	case "advance":
		d, err := time.ParseDuration(w[1])
		must(r.T, err)
		time.Sleep(d)
	case "restart":
		must(r.T, r.Close())
		r.plane = newPlane()
		r.open()
	case "damage":
		path := filepath.Join(r.dir, stateFile)
		b, err := os.ReadFile(path)
		must(r.T, err)
		b[len(b)/2] ^= 1
		must(r.T, os.WriteFile(path, b, 0o600))
	case "set":
		k, v, _ := strings.Cut(w[1], "=")
		must(r.T, r.SetRuntime(map[string]string{k: v}))
	default:
		r.Fatalf("unknown event %q", w)
	}
}

func (r *rig) update(u Update) {
	for _, why := range r.Update(u) {
		r.rejected = append(r.rejected, "NACK "+why.Name+": "+why.text())
	}
}

// status is what the plane serves, and what is not as it should be.
func (r *rig) status() string {
	out := fmt.Sprintf("#%d %s", r.plane.count(), r.plane.served())
	notes := r.rejected
	r.rejected = nil
	for _, s := range r.Status().Resources {
		if s.Name == "rt" && s.State == Requested || s.State == Active || s.State == Retained || s.State == Refused && s.InUse == s.Accepted {
			continue
		}
		note := fmt.Sprintf("%s %s %s", s.API, s.Name, s.State)
		if len(s.WaitsFor) > 0 {
			note += " for " + strings.Join(s.WaitsFor, ", ")
		}
		if s.InUse != "" && s.InUse != s.Accepted {
			note += ", " + s.InUse + " in use"
		}
		notes = append(notes, note)
	}
	if s := r.Ready(); s.Stale {
		notes = append(notes, "stale config "+age(s.Age))
	}
	if len(notes) > 0 {
		out += " [" + strings.Join(notes, "; ") + "]"
	}
	return strings.TrimRight(out, " ")
}

// plane is a data plane that serves nothing.
type plane struct {
	mu      sync.Mutex // guards all below
	applies int
	snap    *snapshot.Snapshot
	bound   map[[2]string]bool // name and address
	busy    map[string]bool
	used    map[string]bool
	refuse  error
	check   func(*snapshot.Snapshot)

	unlogged string // an address
}

func newPlane() *plane {
	return &plane{bound: make(map[[2]string]bool), busy: make(map[string]bool), used: make(map[string]bool)}
}

func (p *plane) set(f func(*plane)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *plane) Listen(l *snapshot.Listener) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := false
	for k := range p.bound {
		ours = ours || k[1] == l.Address // the address goes from one name to another
	}
	if p.busy[l.Address] && !ours {
		return fmt.Errorf("cannot bind %s: address already in use", l.Address)
	}
	if l.Address == p.unlogged {
		return fmt.Errorf("cannot write access log: %w", &fs.PathError{Op: "open", Path: "/no/such", Err: fs.ErrNotExist})
	}
	p.bound[[2]string{l.Name, l.Address}] = true
	return nil
}

func (p *plane) Apply(s *snapshot.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	served, names := make(map[[2]string]bool), make(map[string]string)
	for _, l := range s.Listeners {
		k := [2]string{l.Name, l.Address}
		if !p.bound[k] {
			return fmt.Errorf("listener %s was not opened", l.Name)
		}
		if other := names[l.Address]; other != "" {
			return fmt.Errorf("listeners %s and %s are both on %s", other, l.Name, l.Address)
		}
		served[k], names[l.Address] = true, l.Name
	}
	p.bound = served
	p.applies++
	p.snap = s
	if p.check != nil {
		p.check(s)
	}
	return nil
}

func (p *plane) Uses(cluster string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[cluster]
}

// now returns the snapshot that is served.
func (p *plane) now() *snapshot.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snap
}

// count returns how many snapshots there were.
func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applies
}

func (p *plane) served() string {
	snap := p.now()
	if snap == nil {
		return "nothing"
	}
	var parts []string
	for _, l := range snap.Listeners {
		to := "404"
		if t := snap.Table(l); t != nil {
			to = strings.Join(t.Clusters, ",")
		}
		parts = append(parts, l.Name+l.Address+"→"+to)
	}
	for _, name := range sortedKeys(snap.Clusters) {
		c := snap.Clusters[name]
		at := "cold"
		if c.Assignment != nil {
			var eps []string
			for _, e := range c.Assignment.Endpoints {
				eps = append(eps, e.Address)
			}
			at = strings.Join(eps, ",")
		}
		if c.Retained {
			at += " retained"
		}
		parts = append(parts, name+"("+at+")")
	}
	if v := snap.Runtime.Values["k"]; v != "0" {
		parts = append(parts, "k="+v)
	}
	return strings.Join(parts, " ")
}

// words compiles resources that are written as the scripts say.
type words struct {
	compiled  int
	forgotten []string
}

func (w *words) split(wire []byte, kind string) (name, rest string, err error) {
	w.compiled++
	name, rest, ok := strings.Cut(strings.TrimRight(string(wire), "~"), "=")
	if !ok {
		return "", "", errors.New("no =")
	}
	if why, bad := strings.CutPrefix(rest, "bad:"); bad {
		return "", "", errors.Join(&compile.Error{Type: kind, Resource: name, Path: "field", Reason: why, Hint: "mend it"})
	}
	return name, rest, nil
}

func (w *words) Cluster(wire []byte) (*snapshot.ClusterSettings, compile.Notes, error) {
	name, rest, err := w.split(wire, "cluster")
	if err != nil {
		return nil, compile.Notes{}, err
	}
	rest, fetch, err := fetchWord(rest)
	if err != nil {
		return nil, compile.Notes{}, err
	}
	kind, at, _ := strings.Cut(rest, ":")
	s := &snapshot.ClusterSettings{Name: name, Discovery: snapshot.EDS, Service: at, Fetch: fetch}
	switch kind {
	case "static":
		s.Discovery, s.Service, s.Static = snapshot.Static, "", endpoints(at)
	case "dns":
		s.Discovery, s.Service, s.Static = snapshot.StrictDNS, "", endpoints(at)
	case "logical":
		s.Discovery, s.Service, s.Static = snapshot.LogicalDNS, "", endpoints(at)
	}
	return s, compile.Notes{}, nil
}

// fetchWord cuts an initial_fetch_timeout off.
func fetchWord(s string) (rest string, d time.Duration, err error) {
	rest, word, ok := strings.Cut(s, "@")
	if !ok {
		return s, 15 * time.Second, nil
	}
	d, err = time.ParseDuration(word)
	return rest, d, err
}

func endpoints(list string) *snapshot.Assignment {
	a := new(snapshot.Assignment)
	for _, at := range list2(list) {
		a.Endpoints = append(a.Endpoints, snapshot.Endpoint{Address: at, Weight: 1})
	}
	return a
}

func list2(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func (w *words) Assignment(wire []byte) (string, *snapshot.Assignment, compile.Notes, error) {
	name, rest, err := w.split(wire, "assignment")
	if err != nil {
		return "", nil, compile.Notes{}, err
	}
	return name, endpoints(rest), compile.Notes{}, nil
}

func (w *words) Listener(wire []byte) (*snapshot.Listener, compile.Notes, error) {
	name, rest, err := w.split(wire, "listener")
	if err != nil {
		return nil, compile.Notes{}, err
	}
	at, to, _ := strings.Cut(rest, "/")
	l := &snapshot.Listener{Name: name, Address: at}
	if to, l.RouteFetch, err = fetchWord(to); err != nil {
		return nil, compile.Notes{}, err
	}
	if rds, ok := strings.CutPrefix(to, "rds:"); ok {
		l.RouteName = rds
	} else {
		to, validate := strings.CutSuffix(to, "!")
		l.Inline = &snapshot.RouteTable{Clusters: sorted(list2(to)), Validate: validate}
	}
	return l, compile.Notes{}, nil
}

func (w *words) Routes(wire []byte) (*snapshot.RouteTable, compile.Notes, error) {
	name, rest, err := w.split(wire, "route table")
	if err != nil {
		return nil, compile.Notes{}, err
	}
	rest, validate := strings.CutSuffix(rest, "!")
	return &snapshot.RouteTable{Name: name, Clusters: sorted(list2(rest)), Validate: validate}, compile.Notes{}, nil
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func (w *words) Runtime(wire []byte) (snapshot.RuntimeLayer, compile.Notes, error) {
	name, rest, err := w.split(wire, "runtime")
	if err != nil {
		return snapshot.RuntimeLayer{}, compile.Notes{}, err
	}
	k, v, _ := strings.Cut(rest, ":")
	return snapshot.RuntimeLayer{Name: name, Values: map[string]string{k: v}}, compile.Notes{}, nil
}

func (w *words) Secret(wire []byte) (*snapshot.Secret, compile.Notes, error) {
	name, rest, err := w.split(wire, "secret")
	if err != nil {
		return nil, compile.Notes{}, err
	}
	return &snapshot.Secret{Name: name, Certificate: &snapshot.Certificate{Chain: snapshot.PEM{Bytes: []byte(rest)}}}, compile.Notes{}, nil
}

func (w *words) ForgetSecret(name string)     { w.forgotten = append(w.forgotten, "SDS "+name) }
func (w *words) Forget(table string)          { w.forgotten = append(w.forgotten, "RDS "+table) }
func (w *words) ForgetListener(name string)   { w.forgotten = append(w.forgotten, "LDS "+name) }
func (w *words) ForgetCluster(name string)    { w.forgotten = append(w.forgotten, "CDS "+name) }
func (w *words) ForgetAssignment(name string) { w.forgotten = append(w.forgotten, "EDS "+name) }

// resolver is a fake DNS.
type resolver struct {
	mu    sync.Mutex
	found map[string][]netip.Addr
}

func (r *resolver) set(name, addrs string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, name)
	if addrs == "fail" {
		return
	}
	for _, a := range list2(addrs) {
		r.found[name] = append(r.found[name], netip.MustParseAddr(a))
	}
}

func (r *resolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []netip.Addr
	for _, a := range r.found[host] {
		if network == "ip" || a.Is4() == (network == "ip4") {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}
