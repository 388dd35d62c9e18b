package xds

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	xdsv1 "github.com/quadnine/quadnine/xds/api/quadnine/xds/v1"
)

func TestNack(t *testing.T) {
	for _, d := range []dialect{sotwDialect{}, deltaDialect{}} {
		t.Run(d.name(), func(t *testing.T) {
			h := newHarness(t, d, newFakeSink(), nil)
			h.take()
			give := func(version, nonce string, list ...proto.Message) []proto.Message {
				if d.name() == VariantSotw {
					return h.give(h.sotw(KindCluster, version, nonce, list...))
				}
				return h.give(h.delta(KindCluster, version, nonce, list...))
			}
			give("v1", "1", cluster("a", ""))
			h.sink.reject["bad"] = Rejected{Path: "load_assignment.endpoints[0]", Reason: "port 70000 is out of range", Hint: "use 1 to 65535"}
			got := give("v2", "2", cluster("a", "x"), cluster("bad", ""))
			const want = `Cluster "bad": load_assignment.endpoints[0]: port 70000 is out of range (use 1 to 65535)`
			if text := nackOf(t, got); text != want {
				t.Errorf("NACK\n got %s\nwant %s", text, want)
			}
			if d.name() == VariantSotw {
				h.says(got, "CDS v1 2 !") // the version that was accepted, the nonce that was not
			} else {
				h.says(got, "CDS 2 !")
			}
			if v := h.sink.have[KindCluster]["a"]; v != "v2" {
				t.Errorf("the valid rest has version %q, want v2", v)
			}
			if v := h.topics[KindCluster].Version; v != "v1" && d.name() == VariantSotw {
				t.Errorf("status says that %q was accepted", v)
			}
		})
	}
}

// TestNackDetails: programs get the reasons one by one, in at most 4 KiB.
func TestNackDetails(t *testing.T) {
	for _, d := range []dialect{sotwDialect{}, deltaDialect{}} {
		sink := newFakeSink()
		h := newHarness(t, d, sink, nil)
		h.take()
		sink.reject["bad"] = Rejected{Path: "connect_timeout", Reason: "is negative", Hint: "use 5s"}
		sink.reject["worse"] = Rejected{Reason: "\xff"}
		m := proto.Message(h.sotw(KindCluster, "1", "1", cluster("bad", ""), cluster("good", ""), cluster("worse", "")))
		if d.name() == VariantDelta {
			m = h.delta(KindCluster, "1", "1", cluster("bad", ""), cluster("good", ""), cluster("worse", ""))
		}
		got := detailsOf(t, h.give(m))
		want := []*xdsv1.RejectedResource{
			{Name: "bad", Path: "connect_timeout", Reason: "is negative", Hint: "use 5s"}, {Name: "worse", Reason: "\uFFFD"},
		}
		if !slices.EqualFunc(got, want, func(a, b *xdsv1.RejectedResource) bool { return proto.Equal(a, b) }) {
			t.Errorf("%s: details %v, want %v", d.name(), got, want)
		}
	}
	for _, long := range []string{"", strings.Repeat("é", 3000)} {
		var all []Rejected
		for i := range 1000 {
			all = append(all, Rejected{Name: fmt.Sprint(i, long), Path: long, Reason: long, Hint: long})
		}
		s := nackStatus(KindCluster, all)
		bare := &status.Status{Code: s.GetCode(), Message: s.GetMessage()}
		if n := proto.Size(s) - proto.Size(bare); n > maxNack || len(s.GetDetails()) < 1 {
			t.Errorf("%d details of %d bytes", len(s.GetDetails()), n)
		}
	}
}

// detailsOf are the reasons in the first request, which must be a NACK.
func detailsOf(t *testing.T, list []proto.Message) (out []*xdsv1.RejectedResource) {
	t.Helper()
	if len(list) == 0 {
		t.Fatal("no request, want a NACK")
	}
	r, ok := list[0].(interface{ GetErrorDetail() *status.Status })
	if !ok {
		t.Fatalf("a %T", list[0])
	}
	for _, packed := range r.GetErrorDetail().GetDetails() {
		m := new(xdsv1.RejectedResource)
		if err := packed.UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func TestNackTextIsShort(t *testing.T) {
	long := strings.Repeat("ü", 10_000)
	var all []Rejected
	for i := range 500 {
		all = append(all, Rejected{Name: strconv.Itoa(i) + long, Path: long, Reason: long + "\xff", Hint: long})
	}
	text := NackText(KindCluster, all)
	if len(text) > maxNack || !utf8.ValidString(text) {
		t.Errorf("%d bytes, valid UTF-8: %v", len(text), utf8.ValidString(text))
	}
	if !strings.Contains(text, "and 49") || !strings.Contains(text, " more") {
		t.Errorf("the text does not say how many more there are: …%s", text[len(text)-80:])
	}
	one := NackText(KindCluster, all[:1])
	if strings.Contains(one, "more") || len(one) < 2000 {
		t.Errorf("one reason of %d bytes: %s", len(one), one)
	}
	many := make([]Rejected, 2000)
	for i := range many {
		many[i] = Rejected{Name: fmt.Sprintf("c%d", i), Reason: "no"}
	}
	if text := NackText(KindCluster, many); len(text) > maxNack || len(text) < maxNack-100 || !strings.HasSuffix(text, " more") {
		t.Errorf("%d bytes, …%s", len(text), text[len(text)-40:])
	}
}

// A server of the kind that answers each NACK with what was rejected, at once.
func TestNackStormIsHeld(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	h.sink.reject["bad"] = Rejected{Reason: "no"}
	h.sink.extra[KindEndpoints] = []string{"e"}
	bad := h.sotw(KindCluster, "v2", "", cluster("bad", ""), cluster("a", ""))
	nonce, nacks := 0, 0
	respond := func() []proto.Message {
		nonce++
		r := proto.CloneOf(bad)
		r.Nonce = strconv.Itoa(nonce)
		if nonce%2 == 0 { // out of a map, in any order
			slices.Reverse(r.Resources)
		}
		return h.give(r)
	}
	count := func(list []proto.Message) (again bool) {
		for _, m := range list {
			if strings.HasSuffix(brief(m), "!") {
				nacks++
				again = true
				if want := fmt.Sprintf("CDS %d !", nonce); brief(m) != want {
					t.Fatalf("a NACK %s, want %s: the newest nonce", brief(m), want)
				}
			}
		}
		return again
	}
	for again := count(respond()); again; again = count(respond()) {
		if nacks > 20 {
			t.Fatal("a storm")
		}
	}
	if nacks != 1 {
		t.Fatalf("%d NACKs at once, want 1", nacks)
	}
	for range 100 { // 10 s
		if count(h.after(100 * time.Millisecond)) {
			count(respond())
		}
	}
	if nacks < 10 || nacks > 11 {
		t.Errorf("%d NACKs within 10 s, want one a second", nacks)
	}
	if len(h.sink.updates) != 1 {
		t.Errorf("the same response was validated %d times", len(h.sink.updates))
	}
	if r := h.topics[KindCluster].Repeated; r < 10 {
		t.Errorf("repeated %d", r)
	}
	// Meanwhile all else goes on: another kind …
	h.says(h.give(h.sotw(KindEndpoints, "v", "x", assignment("e"))), "EDS v x [a e]")
	// … and the kind itself, as soon as something of it changed.
	nonce++
	fixed := h.sotw(KindCluster, "v3", strconv.Itoa(nonce), cluster("bad", "y"), cluster("a", ""))
	h.sink.reject = map[string]Rejected{}
	h.says(h.give(fixed), fmt.Sprintf("CDS v3 %d", nonce), "EDS v x [a bad e]")
	h.says(h.after(time.Minute))
}

// The same bad bytes among changed ones: the changes apply at once, the NACK
// keeps its pace. Different bad bytes are told at once, up to a burst.
func TestNackLimit(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	h.sink.reject["bad"] = Rejected{Reason: "no"}
	h.says(h.give(h.sotw(KindCluster, "v1", "1", cluster("bad", ""))), "CDS 1 !")
	h.says(h.give(h.sotw(KindCluster, "v2", "2", cluster("bad", ""), cluster("a", ""))), "EDS [a]")
	if len(h.sink.updates) != 2 {
		t.Fatal("the change was not handed over")
	}
	h.says(h.after(999 * time.Millisecond))
	h.says(h.after(time.Millisecond), "CDS 2 !")
	nacks := 0
	for i := range 50 {
		for _, m := range h.give(h.sotw(KindCluster, "v", fmt.Sprint("x", i), cluster("bad", strconv.Itoa(i)))) {
			if strings.HasSuffix(brief(m), "!") {
				nacks++
			}
		}
	}
	if nacks > nackBurst {
		t.Errorf("%d NACKs of different bytes at once, want at most %d", nacks, nackBurst)
	}
	if nacks < 2 {
		t.Errorf("%d NACKs of different bytes, the limit is for the same", nacks)
	}
	// Some reasons go by themselves.
	h.sink.reject = nil
	h.after(validAgain + time.Second)
	h.says(h.give(h.sotw(KindCluster, "v", "y", cluster("bad", "49"))), "CDS v y", "EDS [bad]")
}

// In SotW every request names everything; one that is sent while a NACK is held
// back must reach the server too.
func TestSubscriptionChangesWhileNackIsHeld(t *testing.T) {
	h := newHarness(t, sotwDialect{}, newFakeSink(), nil)
	h.take()
	h.sink.extra[KindRoutes] = []string{"r1"}
	h.sync(h.now)
	h.says(h.take(), "RDS [r1]")
	h.sink.reject["r1"] = Rejected{Reason: "no"}
	h.says(h.give(h.sotw(KindRoutes, "v1", "1", table("r1"))), "RDS 1 [r1] !")
	h.says(h.give(h.sotw(KindRoutes, "v1", "2", table("r1"))))
	h.sink.extra[KindRoutes] = []string{"r1", "r2"}
	h.sync(h.now)
	h.says(h.take(), "RDS 2 [r1 r2]") // no error_detail: Istio takes no names from a NACK
	h.says(h.give(h.sotw(KindRoutes, "v1", "3", table("r1"))))
	h.says(h.after(time.Second), "RDS 3 [r1 r2] !") // a server that found nonce 2 stale learns it here
}

// In delta a NACK that was held back is about its own resources, whatever else
// arrived.
func TestHeldDeltaNackOutlivesLaterAck(t *testing.T) {
	h := newHarness(t, deltaDialect{}, newFakeSink(), nil)
	h.take()
	h.sink.reject["bad"] = Rejected{Reason: "no"}
	h.says(h.give(h.delta(KindCluster, "1", "n1", cluster("bad", ""))), "CDS n1 !")
	h.says(h.give(h.delta(KindCluster, "2", "n2", cluster("bad", ""))))
	h.says(h.give(h.delta(KindCluster, "1", "n3", cluster("a", ""))), "CDS n3", "EDS +[a]")
	h.says(h.after(time.Second), "CDS n2 !")
	h.after(time.Second)
	h.says(h.give(h.delta(KindCluster, "3", "n4", cluster("bad", ""))), "CDS n4 !")
	h.says(h.give(h.delta(KindCluster, "3", "n5", cluster("bad", ""))))
	h.sink.reject = nil
	h.says(h.give(h.delta(KindCluster, "4", "n6", cluster("bad", "ok"))), "CDS n6", "EDS +[bad]")
	h.says(h.after(time.Minute)) // it is settled
}
