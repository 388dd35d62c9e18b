package xds

import (
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
)

func TestMissing(t *testing.T) {
	sink := newFakeSink()
	sink.extra[KindEndpoints] = []string{"a", "b", "c", "bad", "cached"}
	sink.have[KindEndpoints]["cached"] = "1"
	sink.reject["bad"] = Rejected{Reason: "no"}
	h := newHarness(t, deltaDialect{}, sink, nil)
	h.take()
	h.after(5 * time.Second)
	sink.extra[KindEndpoints] = append(sink.extra[KindEndpoints], "late")
	h.sync(h.now)
	h.take()
	r := h.delta(KindEndpoints, "1", "n", assignment("a"), assignment("bad"))
	r.RemovedResources = []string{"c"}
	h.give(r)
	h.after(10*time.Second - 1)
	if len(sink.missing) != 0 {
		t.Fatalf("too early: %q", sink.missing)
	}
	h.after(1)
	if want := []string{"CDS ", "EDS b", "LDS "}; !slices.Equal(sink.missing, want) {
		t.Fatalf("missing %q, want %q", sink.missing, want)
	}
	h.after(5 * time.Second)
	if want := []string{"CDS ", "EDS b", "LDS ", "EDS late"}; !slices.Equal(sink.missing, want) {
		t.Fatalf("missing %q, want %q", sink.missing, want)
	}
	if h.after(time.Hour); len(sink.missing) != 4 {
		t.Errorf("missing more than once: %q", sink.missing)
	}

	// A server that answers without the resource.
	sink = newFakeSink()
	sink.extra[KindEndpoints] = []string{"a"}
	h = newHarness(t, deltaDialect{}, sink, nil)
	h.give(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: KindEndpoints.TypeURL(), Nonce: "n", ResourceErrors: []*discoveryv3.ResourceError{
		{ResourceName: &discoveryv3.ResourceName{Name: "a"}, ErrorDetail: &status.Status{Code: int32(codes.NotFound), Message: "never heard"}},
	}})
	if want := (ResourceError{"a", codes.NotFound, "never heard"}); len(sink.updates) != 1 || !slices.Equal(sink.updates[0].Errors, []ResourceError{want}) || !want.Final() {
		t.Fatalf("updates %+v", sink.updates)
	}
	if (ResourceError{Code: codes.Unavailable}).Final() {
		t.Error("UNAVAILABLE is not for ever")
	}
	h.after(time.Hour)
	if slices.Contains(sink.missing, "EDS a") {
		t.Error("a resource that the server spoke of counts as missing")
	}

	// One that nobody wants any longer.
	sink = newFakeSink()
	sink.extra[KindEndpoints] = []string{"a", "b"}
	h = newHarness(t, deltaDialect{}, sink, nil)
	sink.extra[KindEndpoints] = []string{"b"}
	h.sync(h.now)
	if h.after(time.Hour); slices.Contains(sink.missing, "EDS a") || !slices.Contains(sink.missing, "EDS b") {
		t.Errorf("missing %q", sink.missing)
	}

	// 0: wait for ever.
	sink = newFakeSink()
	h = &harness{TB: t, sink: sink, now: h.now}
	h.session = &session{dialect: sotwDialect{}, sink: sink, log: quiet, memory: &memory{}, timeout: func(Kind) time.Duration { return 0 }}
	h.start(h.now)
	if h.after(time.Hour); len(sink.missing) != 0 {
		t.Errorf("missing %q with a timeout of 0", sink.missing)
	}
}

// TestFetchTimeouts: what names a resource says how long it may take.
func TestFetchTimeouts(t *testing.T) {
	sink := newFakeSink()
	sink.extra[KindEndpoints] = []string{"brief", "default", "ever", "long"}
	sink.fetch = map[Kind]map[string]time.Duration{KindEndpoints: {"brief": time.Second, "ever": 0, "long": time.Minute}}
	h := newHarness(t, sotwDialect{}, sink, nil)
	for _, step := range []struct {
		d    time.Duration
		want string
	}{
		{time.Second - 1, ""}, {1, "EDS brief"}, {14*time.Second - 1, ""}, {1, "CDS  EDS default LDS "}, {45*time.Second - 1, ""}, {1, "EDS long"}, {24 * time.Hour, ""},
	} {
		sink.missing = nil
		h.after(step.d)
		if got := strings.Join(sink.missing, " "); got != step.want {
			t.Errorf("after %v more: missing %q, want %q", step.d, got, step.want)
		}
	}
	// A name that comes later has a time of its own, which may be over first.
	sink.extra[KindEndpoints] = append(sink.extra[KindEndpoints], "slow")
	h.sync(h.now)
	h.after(time.Second)
	sink.extra[KindEndpoints] = append(sink.extra[KindEndpoints], "quick")
	sink.fetch[KindEndpoints]["quick"] = 2 * time.Second
	h.sync(h.now)
	sink.missing = nil
	if h.after(2 * time.Second); !slices.Equal(sink.missing, []string{"EDS quick"}) {
		t.Errorf("missing %q, want quick", sink.missing)
	}
}
