package differential

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

// accepts reports whether a proxy takes connections at its listener's address.
func (x *proxy) accepts(ctx context.Context) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", x.addr)
	return err == nil && c.Close() == nil
}

// eventually waits until the request is answered as wanted.
func (x *proxy) eventually(t *testing.T, r *request, want string) {
	t.Helper()
	var last answer
	if !until(deadline(t, within), func() bool { last = x.send(t, r); return last.brief() == want }) {
		t.Errorf("%s: %v is answered %s %q %s at last: want %s", x.node, r, last.brief(), last.body, last.err, want)
	}
}

const slowRDS = "rds: {route_config_name: r$seq, config_source: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 1s}}"

// lateTrials: parts of the configuration that come late, or not at all.
var lateTrials = []trial{
	{"routes late", []step{
		{part: part{noTable: true, hcm: slowRDS}},
		{part: part{hcm: slowRDS, routes: all}, requests: []*request{get("/").is("200 b0")}},
	}},
	{"routes missing", []step{
		{part: part{noTable: true, hcm: slowRDS}, do: func(t *testing.T, s *stand) {
			t.Helper()
			for _, x := range s.both() {
				if !until(deadline(t, within), func() bool { return x.accepts(t.Context()) }) {
					t.Errorf("%s does not listen after initial_fetch_timeout", x.node)
				}
			}
		}, requests: []*request{get("/"), get("/").one()}},
		{part: part{hcm: slowRDS, routes: all}, requests: []*request{get("/").is("200 b0")}},
	}},
	{"routes taken away", []step{
		{part: part{routes: all}, requests: []*request{get("/").is("200 b0")}},
		{part: part{noTable: true}, requests: []*request{get("/").is("200 b0")}},
	}},
	{"endpoints taken away", []step{
		{part: eds("", lb("b0", "")), requests: []*request{get("/").is("200 b0")}},
		{part: part{routes: toEDS, clusters: []string{edsCluster("e$seq", "")}}, requests: []*request{get("/").is("200 b0")}},
	}},
	{"bad routes keep the old", []step{
		{part: part{routes: all}, requests: []*request{get("/").is("200 b0")}},
		{part: part{table: `virtual_hosts: [{name: v, domains: ["*"]}, {name: w, domains: ["*"]}]`}, fails: routeType, requests: []*request{get("/").is("200 b0")}},
		{part: part{routes: `[` + to("prefix: /", "b1") + `]`}, requests: []*request{get("/").is("200 b1")}},
	}},
	{"bad endpoints keep the old", []step{
		{part: eds("", lb("b0", "")), requests: []*request{get("/").is("200 b0")}},
		{part: part{routes: toEDS, clusters: []string{edsCluster("e$seq", "")}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: foo.local, port_value: 1}}}}]}]}`}}, fails: edsType, requests: []*request{get("/").is("200 b0")}},
		{part: eds("", lb("b1", "")), requests: []*request{get("/").is("200 b1")}},
	}},
	{"bad listener keeps the old", []step{
		{part: part{routes: all}, requests: []*request{get("/").is("200 b0")}},
		{part: part{routes: all, hcm: "stat_prefix: ''"}, fails: listenerType, requests: []*request{get("/").is("200 b0")}},
	}},
	{"one bad cluster of three", []step{
		{part: part{
			routes:    `[{match: {prefix: /a}, route: {cluster: a$seq}}, {match: {prefix: /c}, route: {cluster: c$seq}}, {match: {prefix: /}, route: {cluster: bad$seq}}]`,
			clusters:  []string{edsCluster("a$seq", ""), `{name: bad$seq, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: bad$seq, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: foo.local, port_value: 80}}}}]}]}}`, edsCluster("c$seq", "")},
			endpoints: []string{assign("a$seq", lb("b1", "")), assign("c$seq", lb("b2", ""))},
		}, fails: clusterType, requests: []*request{get("/a").is("200 b1"), get("/c").is("200 b2"), get("/").is("503")}},
	}},
	{"inline table", []step{
		{part: part{noTable: true, hcm: `{rds: null, route_config: {name: i, virtual_hosts: [{name: v, domains: ["*"], routes: ` + all + `}]}}`}, requests: nil, do: func(t *testing.T, s *stand) {
			t.Helper()
			for _, x := range s.both() {
				x.eventually(t, get("/"), "200 b0")
			}
		}},
		{part: part{noTable: true, hcm: `{rds: null, route_config: {name: i, virtual_hosts: [{name: v, domains: ["*"], routes: [` + to("prefix: /", "b1") + `]}]}}`}, do: func(t *testing.T, s *stand) {
			t.Helper()
			for _, x := range s.both() {
				x.eventually(t, get("/"), "200 b1")
			}
		}},
	}},
}

// TestLate runs in both variants: what is missing looks different on the wire.
func TestLate(t *testing.T) {
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.run(t, lateTrials)
		})
	}
}

// TestEndpointsLate: a cluster without its assignment holds up nobody but those
// who are routed to it. It has a stand of its own, because Envoy takes no more
// clusters while one waits.
func TestEndpointsLate(t *testing.T) {
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.seq++
			s.name = "endpoints late"
			a := addrs(t, 2)
			s.envoy.point(t, a[0])
			s.ours.point(t, a[1])
			p := eds("", lb("b1", ""))
			p.routes = `[{match: {prefix: /e}, route: {cluster: e$seq}}, {match: {prefix: /}, route: {cluster: b0}}]`
			s.step(t, s.name, step{part: part{routes: all}, requests: []*request{get("/").is("200 b0")}})
			late := p
			late.endpoints = nil
			s.version++
			for _, x := range s.both() {
				s.cp.set(t, x.node, s.build(t, late, x.addr))
			}
			// The listener that was there keeps serving all the while.
			for _, x := range s.both() {
				if got := x.send(t, get("/")); got.brief() != "200 b0" {
					t.Errorf("%s answers %s %q while a cluster waits", x.node, got.brief(), got.body)
				}
			}
			s.version++
			for _, x := range s.both() {
				s.cp.set(t, x.node, s.build(t, p, x.addr))
			}
			for _, x := range s.both() {
				x.eventually(t, get("/e"), "200 b1")
				x.eventually(t, get("/"), "200 b0")
			}
		})
	}
}

// TestDrain: a listener that is taken away answers what it has begun, and what
// comes on connections that were there, and takes no new ones.
func TestDrain(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, []trial{{"listener taken away", []step{{part: part{routes: all}, do: func(t *testing.T, s *stand) {
		t.Helper()
		type running struct{ h2, h1 chan answer }
		var begun []running
		for _, x := range s.both() {
			r := running{make(chan answer, 1), make(chan answer, 1)}
			go func() { r.h2 <- x.send(t, get("/").h("q-hold", "drain-"+x.node)) }()
			go func() { r.h1 <- x.send(t, get("/").h("q-hold", "drain-"+x.node).one()) }()
			for range 2 {
				<-s.backends[0].holding("drain-" + x.node).arrived
			}
			begun = append(begun, r)
		}
		s.empty(t)
		for i, x := range s.both() {
			if !until(deadline(t, within), func() bool { return !x.accepts(t.Context()) }) {
				t.Errorf("%s still takes connections", x.node)
			}
			s.backends[0].release("drain-" + x.node)
			for name, c := range map[string]chan answer{"h2c": begun[i].h2, "h1": begun[i].h1} {
				if a := <-c; a.brief() != "200 b0" {
					t.Errorf("%s: a %s request that had begun ended %s %s", x.node, name, a.brief(), a.err)
				}
			}
		}
	}}}}, {"table changes without drain", []step{
		{part: part{routes: all}, do: sameConnection},
		{part: part{routes: `[` + to("prefix: /", "b1") + `]`}, do: sameConnection},
	}}})
}

// sameConnection checks that one held-back request over HTTP/2 does not keep the
// next from being answered by the table in use, on the same connection.
func sameConnection(t *testing.T, s *stand) {
	t.Helper()
	for _, x := range s.both() {
		var dials int
		tr, ok := x.h2.Transport.(*http.Transport)
		if !ok {
			t.Fatal("no transport")
		}
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return dial(ctx, network, addr)
		}
		if a := x.send(t, get("/")); a.status != http.StatusOK {
			t.Errorf("%s: %s", x.node, a.brief())
		}
		if dials != 0 {
			t.Errorf("%s has closed the connection for a changed table", x.node)
		}
		tr.DialContext = dial
	}
}

// TestIgnoredFieldsAreTold: what is accepted without effect is told where it is.
func TestIgnoredFieldsAreTold(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, []trial{{"ignored fields", []step{{part: part{routes: all, clusters: []string{"{name: j$seq, connect_timeout: 1s, " + fits + ", alt_stat_name: other}"}}, do: func(t *testing.T, s *stand) {
		t.Helper()
		if self {
			return
		}
		ok := until(deadline(t, within), func() bool {
			status, body := s.ours.ask(deadline(t, within), http.MethodGet, "/xds/status")
			return status == http.StatusOK && strings.Contains(body, "alt_stat_name")
		})
		if !ok {
			_, body := s.ours.ask(deadline(t, within), http.MethodGet, "/xds/status")
			t.Errorf("/xds/status does not name alt_stat_name: %s", tail(body, 3000))
		}
	}}}}})
}
