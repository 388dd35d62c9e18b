package xds

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

var quiet = slog.New(slog.DiscardHandler)

// brief is a request in short: "CDS v1 n1 [a b]" in SotW, "EDS n1 +[a] -[b] {c=1}"
// in delta, with "!" before what is a NACK, and "node" if it has one.
func brief(m proto.Message) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	list := func(sign string, names []string) {
		if len(names) > 0 {
			add(sign + "[" + strings.Join(names, " ") + "]")
		}
	}
	kind := func(url string) string {
		k, _ := KindOf(url)
		return k.String()
	}
	switch m := m.(type) {
	case *discoveryv3.DiscoveryRequest:
		add(kind(m.GetTypeUrl()))
		add(m.GetVersionInfo())
		add(m.GetResponseNonce())
		list("", m.GetResourceNames())
		if m.GetErrorDetail() != nil {
			add("!")
		}
		if m.GetNode() != nil {
			add("node")
		}
	case *discoveryv3.DeltaDiscoveryRequest:
		add(kind(m.GetTypeUrl()))
		add(m.GetResponseNonce())
		list("+", m.GetResourceNamesSubscribe())
		list("-", m.GetResourceNamesUnsubscribe())
		var versions []string
		for _, name := range slices.Sorted(maps.Keys(m.GetInitialResourceVersions())) {
			versions = append(versions, name+"="+m.GetInitialResourceVersions()[name])
		}
		list("known", versions)
		if m.GetErrorDetail() != nil {
			add("!")
		}
		if m.GetNode() != nil {
			add("node")
		}
	}
	return strings.Join(parts, " ")
}

// nackOf is the text of the only request, which must be a NACK.
func nackOf(t *testing.T, list []proto.Message) string {
	t.Helper()
	if len(list) == 0 {
		t.Fatal("no request, want a NACK")
	}
	var detail *status.Status
	switch m := list[0].(type) {
	case *discoveryv3.DiscoveryRequest:
		detail = m.GetErrorDetail()
	case *discoveryv3.DeltaDiscoveryRequest:
		detail = m.GetErrorDetail()
	}
	if detail == nil {
		t.Fatalf("%s is no NACK", brief(list[0]))
	}
	return detail.GetMessage()
}

func assignment(name string) proto.Message {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name}
}

func table(name string) proto.Message { return &routev3.RouteConfiguration{Name: name} }

func TestSotwConversation(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.says(h.take(), "CDS node", "LDS")
	h.says(h.give(h.sotw(KindCluster, "v1", "1", cluster("b", ""), cluster("a", ""))), "CDS v1 1", "EDS [a b]")
	h.says(h.give(h.sotw(KindListener, "v1", "2", listener("l", "r"))), "LDS v1 2", "RDS [r]")
	h.says(h.give(h.sotw(KindEndpoints, "v1", "3", assignment("a"))), "EDS v1 3 [a b]")
	h.says(h.give(h.sotw(KindRoutes, "v1", "4", table("r"))), "RDS v1 4 [r]")

	// A cluster less: its assignment is not asked for any longer, with the newest
	// nonce of the type.
	h.says(h.give(h.sotw(KindCluster, "v2", "5", cluster("b", ""))), "CDS v2 5", "EDS v1 3 [b]")
	// Absence means nothing where names are asked for.
	h.says(h.give(h.sotw(KindEndpoints, "v2", "6")), "EDS v2 6 [b]")
	if _, ok := h.sink.have[KindEndpoints]["a"]; !ok {
		t.Error("an assignment went because a response did not have it")
	}
	// The last one: no names are no wildcard, once there were some.
	h.says(h.give(h.sotw(KindCluster, "v3", "7")), "CDS v3 7", "EDS v2 6")
	h.says(h.give(h.sotw(KindEndpoints, "v3", "8")), "EDS v3 8")
}

func TestDeltaConversation(t *testing.T) {
	h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
	h.says(h.take(), "CDS node", "LDS")
	h.says(h.give(h.delta(KindCluster, "1", "n1", cluster("b", ""), cluster("a", ""))), "CDS n1", "EDS +[a b]")
	h.says(h.give(h.delta(KindEndpoints, "1", "n2", assignment("a"))), "EDS n2")
	r := h.delta(KindCluster, "1", "n3", cluster("c", ""))
	r.RemovedResources = []string{"a"}
	// What changes of a subscription goes without a nonce; only answers have one.
	h.says(h.give(r), "CDS n3", "EDS +[c] -[a]")
	if got := h.sink.updates[2].Removed; !slices.Equal(got, []string{"a"}) {
		t.Errorf("removed %q", got)
	}
	h.sink.extra[KindEndpoints] = []string{"d", "d", ""}
	h.sync(h.now)
	h.says(h.take(), "EDS +[d]")
	h.sync(h.now)
	h.says(h.take())
}

func TestNodeInEveryRequest(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	h.nodeOnce = false
	h.says(h.give(h.sotw(KindCluster, "v", "1")), "CDS v 1 node")
}

func TestWhatNobodyAskedFor(t *testing.T) {
	for _, d := range []dialect{sotwDialect{}, deltaDialect{}} {
		t.Run(d.name(), func(t *testing.T) {
			sink := newFakeSink()
			sink.extra[KindEndpoints] = []string{"mine"}
			h := newHarness(t, d, sink, nil)
			h.take()
			other := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: "type.googleapis.com/istio.networking.nds.v1.NameTable", Nonce: "1"}
			var got []proto.Message
			if d.name() == VariantSotw {
				h.says(h.give(&discoveryv3.DiscoveryResponse{TypeUrl: other.TypeUrl, Nonce: "1"}))
				h.says(h.give(h.sotw(KindRoutes, "v", "2", table("r")))) // a kind without names yet
				got = h.give(h.sotw(KindEndpoints, "v", "3", assignment("theirs"), assignment("mine")))
				h.says(got, "EDS v 3 [mine]")
			} else {
				h.says(h.give(other))
				h.says(h.give(h.delta(KindRoutes, "v", "2", table("r"))))
				r := h.delta(KindEndpoints, "v", "3", assignment("theirs"), assignment("mine"))
				r.RemovedResources = []string{"third"}
				h.says(h.give(r), "EDS 3")
			}
			if len(sink.updates) != 1 || len(sink.updates[0].Resources) != 1 || len(sink.updates[0].Removed) != 0 || sink.have[KindEndpoints]["mine"] != "v" {
				t.Errorf("handed over: %+v", sink.updates)
			}
			if n := h.topics[KindEndpoints].Unasked; n != 1 {
				t.Errorf("%d counted as not asked for, want 1", n)
			}
		})
	}
}

func TestResponsesThatCannotBeUsed(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	h.give(h.sotw(KindCluster, "v1", "1", cluster("a", "")))
	cases := map[string]struct {
		resources []*anypb.Any
		want      string
	}{
		"type":    {[]*anypb.Any{wrap(t, cluster("a", "")), wrap(t, table("r"))}, `Cluster: resources[1].type_url: the response is of type type.googleapis.com/envoy.config.cluster.v3.Cluster, the resource of "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"`},
		"garbage": {[]*anypb.Any{{TypeUrl: KindCluster.TypeURL(), Value: []byte{0x0a, 0x7f, 1}}}, "Cluster: resources[0]: not a protobuf message"},
		"tag":     {[]*anypb.Any{{TypeUrl: KindCluster.TypeURL(), Value: []byte{0xff}}}, "Cluster: resources[0]: not a protobuf message"},
		"field":   {[]*anypb.Any{{TypeUrl: KindCluster.TypeURL(), Value: []byte{0x12, 0x7f, 1}}}, "Cluster: resources[0]: not a protobuf message"},
		"name":    {[]*anypb.Any{{TypeUrl: KindCluster.TypeURL(), Value: []byte{0x0a, 1, 0xff}}}, "Cluster: resources[0]: its name is not UTF-8"},
		"wrapper": {[]*anypb.Any{{TypeUrl: wrapperURL, Value: []byte{0xff}}}, "Cluster: resources[0]: not a protobuf message"},
		"bodies":  {[]*anypb.Any{wrap(t, cluster("a", "")), wrap(t, &discoveryv3.Resource{Name: "b"})}, `Cluster: resource "b" has no body`},
		"nothing": {[]*anypb.Any{wrap(t, &discoveryv3.Resource{Name: "b"})}, `Cluster "b": resource: it has no body, and was not sent before`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h.now = h.now.Add(time.Minute)
			got := h.give(&discoveryv3.DiscoveryResponse{TypeUrl: KindCluster.TypeURL(), VersionInfo: "v2", Nonce: "2", Resources: c.resources})
			if text := nackOf(t, got); !strings.HasPrefix(text, c.want) {
				t.Errorf("NACK\n got %s\nwant %s", text, c.want)
			}
			// None of it is used: who is missing cannot be told, and what is missing is gone.
			if len(h.sink.updates) != 1 || h.sink.have[KindCluster]["a"] != "v1" {
				t.Error("something of it was used")
			}
		})
	}
	if h.receive(h.now, &discoveryv3.DeltaDiscoveryResponse{}); len(h.take()) != 0 {
		t.Error("a message of the other variant was answered")
	}
}

// TestKindsFromElsewhere: what the bootstrap has from a file, or not at all, is not
// asked of the server.
func TestKindsFromElsewhere(t *testing.T) {
	sink := newFakeSink()
	s := &session{dialect: sotwDialect{}, sink: sink, log: quiet, memory: &memory{}, timeout: func(Kind) time.Duration { return fetchTimeout }, elsewhere: []Kind{KindCluster}}
	h := &harness{TB: t, session: s, sink: sink, now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	s.start(h.now)
	h.says(h.take(), "LDS")
	h.says(h.give(h.sotw(KindCluster, "v1", "1", cluster("a", ""))))
	if len(sink.updates) != 0 {
		t.Errorf("%d updates, want none", len(sink.updates))
	}
}

func TestHeartbeat(t *testing.T) {
	h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
	h.take()
	h.give(h.delta(KindCluster, "1", "n1", cluster("a", "")))
	r := h.delta(KindCluster, "1", "n2")
	r.Resources = []*discoveryv3.Resource{{Name: "a", Version: "1"}}
	h.says(h.give(r), "CDS n2")
	if len(h.sink.updates) != 1 {
		t.Error("a heartbeat is an update")
	}
}

func TestResourceInSotw(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	r := h.sotw(KindCluster, "v1", "1", &discoveryv3.Resource{Name: "a", Version: "7", Resource: wrap(t, cluster("a", ""))})
	h.says(h.give(r), "CDS v1 1", "EDS [a]")
	if v := h.sink.have[KindCluster]["a"]; v != "7" {
		t.Errorf("version %q, want the wrapper's", v)
	}
}

func TestReconnect(t *testing.T) {
	t.Run("sotw", func(t *testing.T) {
		m, sink := &memory{}, newFakeSink()
		h := newHarness(t, sotwDialect{}, sink, m)
		h.give(h.sotw(KindCluster, "c7", "1", cluster("a", "")))
		h.give(h.sotw(KindListener, "l7", "2", listener("l", "r")))
		h.give(h.sotw(KindEndpoints, "e7", "3", assignment("a")))
		h.give(h.sotw(KindRoutes, "r7", "4", table("r")))
		h = newHarness(t, sotwDialect{}, sink, m)
		h.says(h.take(), "CDS c7 node", "EDS e7 [a]", "LDS l7", "RDS r7 [r]")
		// Silence means that nothing changed.
		if h.after(time.Hour); len(sink.missing) != 0 {
			t.Errorf("missing %q", sink.missing)
		}
		// Something that was never received: a server must not think we have it.
		sink.extra[KindRoutes] = []string{"new"}
		h = newHarness(t, sotwDialect{}, sink, m)
		h.says(h.take(), "CDS c7 node", "EDS e7 [a]", "LDS l7", "RDS [new r]")
		if h.after(time.Hour); !slices.Equal(sink.missing, []string{"RDS new"}) {
			t.Errorf("missing %q", sink.missing)
		}
		// Another server: its versions mean other things.
		h = newHarness(t, sotwDialect{}, sink, m)
		h.take()
		h.server, h.topics = 1, [kinds]topic{}
		h.start(h.now)
		h.says(h.take(), "CDS", "EDS [a]", "LDS", "RDS [new r]")
	})
	t.Run("delta", func(t *testing.T) {
		m, sink := &memory{}, newFakeSink()
		sink.have[KindCluster]["restored"] = "from a file"
		h := newHarness(t, deltaDialect{}, sink, m)
		h.says(h.take(), "CDS known[restored=] node", "LDS") // the version may mean something else by now
		h.give(h.delta(KindCluster, "1", "n1", cluster("a", "")))
		h.give(h.delta(KindListener, "", "n2", listener("l", "r"))) // Istio's version
		h.give(h.delta(KindEndpoints, "3", "n3", assignment("a")))
		sink.reject["r"] = Rejected{Reason: "no"}
		h.give(h.delta(KindRoutes, "4", "n4", table("r")))
		h = newHarness(t, deltaDialect{}, sink, m)
		h.says(h.take(), "CDS known[a=1 restored=] node", "EDS +[a] known[a=3]", "LDS known[l=]", "RDS +[r]")
		h = newHarness(t, deltaDialect{}, sink, m)
		h.take()
		h.server, h.topics = 1, [kinds]topic{}
		h.start(h.now)
		h.says(h.take(), "CDS known[a= restored=]", "EDS +[a] known[a=]", "LDS known[l=]", "RDS +[r]")
	})
}

func TestBackoff(t *testing.T) {
	var b backoff
	want := []float64{1, 1.6, 2.56, 4.096}
	for i, w := range want {
		if got := b.next().Seconds(); got < w*0.8 || got > w*1.2 {
			t.Errorf("wait %d: %.2f s, want %.2f ± 20 %%", i, got, w)
		}
	}
	for range 20 {
		b.next()
	}
	if got := b.next(); got > 144*time.Second || got < 96*time.Second {
		t.Errorf("longest wait %v", got)
	}
	if got := b.after(time.Hour); got > 200*time.Millisecond {
		t.Errorf("after a long life: %v", got)
	}
	if got := b.next().Seconds(); got > 1.2 {
		t.Errorf("the series was not started anew: %v s", got)
	}
	if got := b.after(0); got < 800*time.Millisecond {
		t.Errorf("after a short life: %v", got)
	}
}

func TestExplain(t *testing.T) {
	c := NewClient(ClientOptions{Servers: []ServerConfig{{Name: "s"}}})
	if err := c.explain(&adsLink{}, errors.New("x")); err.Error() != "xds: server s: x" {
		t.Error(err)
	}
	if c.explain(&adsLink{}, nil) != nil {
		t.Error("nothing explained")
	}
}

func FuzzResponses(f *testing.F) {
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	h := &harness{TB: f}
	seed(&discoveryv3.DiscoveryResponse{TypeUrl: KindCluster.TypeURL(), Nonce: "1"})
	for _, d := range []*discoveryv3.DeltaDiscoveryResponse{h.delta(KindCluster, "1", "n", cluster("a", "")), h.delta(KindEndpoints, "1", "n", assignment("e"), assignment("e"))} {
		seed(d)
	}
	seed(h.sotw(KindCluster, "1", "n", cluster("a", ""), cluster("a", "")))
	seed(h.sotw(KindEndpoints, "1", "n", &discoveryv3.Resource{Name: "e"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, d := range []dialect{sotwDialect{}, deltaDialect{}} {
			var m proto.Message = &discoveryv3.DiscoveryResponse{}
			if d.name() == VariantDelta {
				m = &discoveryv3.DeltaDiscoveryResponse{}
			}
			if proto.Unmarshal(data, m) != nil {
				continue
			}
			sink := newFakeSink()
			sink.extra[KindEndpoints] = []string{"e"}
			h := newHarness(t, d, sink, nil)
			h.take()
			for range 2 {
				answers := 0
				for _, m := range h.give(m) {
					if b, err := proto.Marshal(m); err != nil || len(b) > 64<<10+len(data) {
						t.Fatalf("a request cannot be sent: %d bytes, %v", len(b), err)
					}
					answers++
				}
				if answers > 1+len(Kinds()) {
					t.Fatalf("%d requests follow one response", answers)
				}
			}
			for _, u := range sink.updates {
				seen := make(map[string]bool)
				for _, r := range u.Resources {
					if seen[r.Name] {
						t.Fatalf("%q twice in one update", r.Name)
					}
					seen[r.Name] = true
				}
			}
		}
	})
}
