package captures

import (
	"bytes"
	"net/http"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// held is a connection with a request on it that is not answered yet.
type held struct {
	caller

	ask  ask
	done chan int // its status
}

// hold opens a connection to a listener, and a request on it that the backend
// keeps.
func (s *stage) hold(t *testing.T, addr string, a ask) *held {
	t.Helper()
	h := &held{newCaller(t, addr), a, make(chan int, 1)}
	h.ask.header = a.header.Clone()
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = make(http.Header)
	}
	a.header.Set(holdHeader, "1")
	go func() {
		status, _ := a.send(t, h.caller)
		h.done <- status
	}()
	select {
	case <-s.backend.arrived:
	case <-deadline(t).Done():
		t.Fatalf("%v at %s does not reach the backend", a, addr)
	}
	return h
}

// undisturbed checks that the connection is still used for new requests. After a
// GOAWAY the client would open another one: the first request is answered after
// whatever was written before, so that the second one would need it.
func (h *held) undisturbed(t *testing.T, want int) {
	t.Helper()
	for range 3 {
		if status, _ := h.ask.send(t, h.caller); status != want {
			t.Errorf("%v is answered %d on the held connection, want %d", h.ask, status, want)
		}
	}
	if n := h.dials.Load(); n != 1 {
		t.Errorf("%v: %d connections were opened: the first one was drained", h.ask, n)
	}
}

// end lets the backend answer, and checks that the held requests get it.
func (s *stage) end(t *testing.T, all ...*held) {
	t.Helper()
	close(s.backend.answer)
	for _, h := range all {
		if status := <-h.done; status != http.StatusOK {
			t.Errorf("%v was held and answered %d", h.ask, status)
		}
	}
}

// holdable returns a request that each taken listener forwards, by its address.
func (s *stage) holdable(t *testing.T) map[string]ask {
	t.Helper()
	out := make(map[string]ask)
	for _, r := range s.resources {
		if r.api != "LDS" || s.skip(r) || !s.taken(r) {
			continue
		}
		table := field(manager(r), "route_config")
		if name, _ := field(manager(r), "rds", "route_config_name").(string); name != "" {
			i := slices.IndexFunc(s.resources, func(x *resource) bool { return x.api == "RDS" && x.name == name })
			if i < 0 {
				continue
			}
			table = s.resources[i].json
		}
		m := new(routev3.RouteConfiguration)
		fill(t, m, table)
		for _, h := range m.GetVirtualHosts() {
			for _, x := range h.GetRoutes() {
				if _, ok := out[r.addr]; !ok && slices.Equal(s.expects(x), []int{http.StatusOK}) {
					out[r.addr] = matching(t, h, x)
				}
			}
		}
	}
	return out
}

// Envoy Gateway sends unchanged listeners again, with other bytes and versions,
// whenever a route changes. No connection is drained for it, nor is one for any
// other resource that comes again.
func TestSentAgain(t *testing.T) {
	eachServer(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.reduce(t)
		s.push(t)
		var all []*held
		for addr, a := range s.holdable(t) {
			all = append(all, s.hold(t, addr, a))
		}
		if len(all) == 0 {
			t.Fatal("no listener forwards")
		}
		before := s.versions["LDS"]
		s.edit = reorder(t)
		for range 3 {
			s.push(t)
			changed := 0
			for name, v := range s.versions["LDS"] {
				if before[name] != v {
					changed++
				}
			}
			if changed == 0 {
				t.Error("the listeners were sent with the bytes they had: nothing is tested")
			}
			before = s.versions["LDS"]
			for _, h := range all {
				h.undisturbed(t, http.StatusOK)
			}
		}
		if n := s.manager.rejections(); len(n) != 0 {
			t.Errorf("NACKs: %q", n)
		}
		s.end(t, all...)
		t.Logf("%d listeners with a held connection", len(all))
	})
}

// reorder returns an edit that changes bytes and nothing else: messages inside
// of an Any are written with their fields rotated, and maps in random order.
func reorder(t *testing.T) func(types.Resource) {
	t.Helper()
	return func(m types.Resource) {
		l, ok := m.(*listenerv3.Listener)
		if !ok {
			return
		}
		for _, c := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
			for _, f := range c.GetFilters() {
				a := f.GetTypedConfig()
				content, err := a.UnmarshalNew()
				if err != nil {
					t.Fatal(err)
				}
				again, err := proto.Marshal(content)
				if err != nil {
					t.Fatal(err)
				}
				a.Value = shuffled(t, again)
			}
		}
	}
}

// turns makes each shuffle another one.
var turns int

// shuffled returns wire with its fields in another order; those of one number
// keep theirs.
func shuffled(t *testing.T, wire []byte) []byte {
	t.Helper()
	turns++
	byNumber := make(map[protowire.Number][]byte)
	var numbers []protowire.Number
	for rest := wire; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		if byNumber[number] == nil {
			numbers = append(numbers, number)
		}
		byNumber[number] = append(byNumber[number], rest[:n]...)
		rest = rest[n:]
	}
	var out [][]byte
	for i := range numbers {
		out = append(out, byNumber[numbers[(i+turns)%len(numbers)]])
	}
	return bytes.Join(out, nil)
}

// Kuma's routes are part of its listeners. An edit of one replaces the table;
// connections and what runs on them stay.
func TestRouteEditInsideAListener(t *testing.T) {
	s := newStage(t, "kuma")
	s.reduce(t)
	s.push(t)
	var all []*held
	for addr, a := range s.holdable(t) {
		all = append(all, s.hold(t, addr, a))
	}
	if len(all) == 0 {
		t.Fatal("no listener forwards")
	}
	s.edit = func(m types.Resource) {
		l, ok := m.(*listenerv3.Listener)
		if !ok || l.GetName() == probeListener {
			return
		}
		for _, f := range l.GetFilterChains()[0].GetFilters() {
			h := new(hcmv3.HttpConnectionManager)
			if err := f.GetTypedConfig().UnmarshalTo(h); err != nil {
				t.Fatal(err)
			}
			v := h.GetRouteConfig().GetVirtualHosts()[0]
			v.Routes = append([]*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/edited"}},
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 299}},
			}}, v.Routes...)
			f.GetTypedConfig().Value = packed(t, h).GetValue()
		}
	}
	s.push(t)
	for _, h := range all {
		edited := ask{method: http.MethodGet, host: h.ask.host, path: "/edited"} // the client has a connection a host
		if status, _ := edited.send(t, h.caller); status != 299 {
			t.Errorf("the edited route is answered %d on the held connection, want 299", status)
		}
		h.undisturbed(t, http.StatusOK)
	}
	// The test would see a drained connection: a listener that is gone drains its.
	s.skip = func(r *resource) bool { return r.api == "LDS" }
	s.push(t)
	for _, h := range all {
		gone := func() bool {
			res, err := h.Get("http://" + h.ask.host + "/edited")
			if err == nil {
				res.Body.Close()
			}
			return err != nil && h.dials.Load() > 1
		}
		if !until(t, gone) {
			t.Error("a listener was taken away, and its connection stays in use")
		}
	}
	s.end(t, all...)
	t.Logf("%d listeners with a held connection", len(all))
}
