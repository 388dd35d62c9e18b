package xds

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// What real management servers do and clients fell for.

// Istio's resources have no versions, and Kuma pushes changed endpoints under the
// version they had: equal versions are no reason to leave an update out.
func TestTrapEqualVersionsAreUpdates(t *testing.T) {
	for _, version := range []string{"", "same"} {
		h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
		h.take()
		h.says(h.give(h.delta(KindCluster, version, "n1", cluster("a", "1"))), "CDS n1", "EDS +[a]")
		h.says(h.give(h.delta(KindCluster, version, "n2", cluster("a", "2"))), "CDS n2")
		if len(h.sink.updates) != 2 || slices.Equal(h.sink.updates[0].Resources[0].Body, h.sink.updates[1].Resources[0].Body) {
			t.Errorf("version %q: the change was not handed over", version)
		}
		h = newHarness(t, sotwDialect{}, newFakeSink(), nil)
		h.take()
		h.says(h.give(h.sotw(KindListener, version, "n1", listener("l", "r"))), strings.Join(strings.Fields("LDS "+version+" n1"), " "), "RDS [r]")
		h.says(h.give(h.sotw(KindListener, version, "n2", listener("l", "s"))), strings.Join(strings.Fields("LDS "+version+" n2"), " "), "RDS [s]")
	}
}

// Envoy Gateway sends unchanged listeners with new versions: they are answered,
// and nothing else follows from the protocol's side.
func TestTrapNewVersionsOfTheSame(t *testing.T) {
	h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
	h.take()
	h.give(h.delta(KindListener, "1", "n1", listener("l", "r")))
	h.says(h.give(h.delta(KindListener, "2", "n2", listener("l", "r"))), "LDS n2")
	if v := h.sink.have[KindListener]["l"]; v != "2" {
		t.Errorf("version %q: the server would send it again after a reconnect", v)
	}
}

// Istio can send a listener twice. Envoy rejects all of a delta response for it,
// but in SotW only the second one.
func TestTrapDuplicateNames(t *testing.T) {
	h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
	h.take()
	got := h.give(h.delta(KindListener, "1", "n1", listener("a", "r"), listener("b", "r"), listener("a", "s")))
	if text := nackOf(t, got); text != `Listener: resources[2].name: "a": the response has more than one Listener of this name (send each name once)` {
		t.Error(text)
	}
	if len(h.sink.updates) != 0 {
		t.Error("some of it was used")
	}
	r := h.delta(KindListener, "1", "n2", listener("a", "r"))
	r.RemovedResources = []string{"a"}
	h.now = h.now.Add(time.Minute)
	if text := nackOf(t, h.give(r)); !strings.Contains(text, `"a" is both sent and removed`) {
		t.Error(text)
	}

	h = newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	got = h.give(h.sotw(KindListener, "v1", "1", listener("a", "r"), listener("b", "q"), listener("a", "s")))
	if text := nackOf(t, got); text != `Listener "a": the response has more than one Listener of this name (send each name once)` {
		t.Error(text)
	}
	h.says(got, "LDS 1 !", "RDS [q r]") // the first one and the rest are used
}

// Envoy Gateway's server panics when an incremental and a state-of-the-world
// stream have the same number: there is only ever one stream to a server, and a
// new one waits for the end of the one before.
func TestTrapOneStreamToAServer(t *testing.T) {
	eachManager(t, func(t *testing.T, variant string, m *manager) {
		t.Helper()
		m.set(world("", []string{"a"}, []string{"r"}))
		m.start()
		run(t, ClientOptions{Variant: variant, Sink: newFakeSink()}, m)
		for range 5 {
			wait(3 * time.Second)
			m.stop()
			m.start()
		}
		wait(3 * time.Second)
		if m.most != 1 || len(m.streams) != 6 {
			t.Errorf("%d streams, %d at once, want 6 and 1", len(m.streams), m.most)
		}
		for _, v := range m.streams {
			if v != variant {
				t.Errorf("a stream of the variant %s", v)
			}
		}
	})
}

// Once names were asked for, a request without any is one for nothing. A first
// one would be one for everything.
func TestTrapNoNamesAreNoWildcard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests []string
		m := scripted(t, func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
			for {
				req, err := s.Recv()
				if err != nil {
					return err
				}
				requests = append(requests, brief(req))
			}
		})
		m.start()
		run(t, ClientOptions{Variant: VariantSotw, Sink: newFakeSink(), SetNodeOnFirstOnly: true}, m)
		wait(time.Second)
		if want := []string{"CDS node", "LDS"}; !slices.Equal(requests, want) {
			t.Errorf("requests %q, want %q", requests, want)
		}
	})
}
