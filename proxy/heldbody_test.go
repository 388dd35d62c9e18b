package proxy

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// TestAReplyAnnouncedAsTooLongIsNotGathered: it streams from its first byte, and
// one that just fits is held.
func TestAReplyAnnouncedAsTooLongIsNotGathered(t *testing.T) {
	most := policy.DefaultCacheConfig().MaxBodyBytes
	for _, over := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
			r.frameApp("app:80", func(w *wire) {
				w.until("HEADERS 1")
				w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
				w.headers(1, false, ":status", "200", "content-length", strconv.Itoa(most+over))
				w.do(func(fr *http2.Framer) error { return fr.WriteData(1, false, make([]byte, 1<<14)) })
				synctest.Wait() // the rest never comes
				if n := r.server.budget.used.Load(); (n == int64(most)) != (over == 0) || over == 1 && n != 0 {
					t.Errorf("%d bytes over the bound: %d bytes of the budget are taken", over, n)
				}
				if n := r.reg.Total(telemetry.OverBudgetDrops); n != uint64(over) {
					t.Errorf("%d bytes over the bound: counted %d times", over, n)
				}
				w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeInternal) })
			})
			w := r.caller()
			w.ask(1, true, "GET", query+"?tenant=a")
			want := ":status=502"
			if over == 1 {
				want = ":status=200"
			}
			if got := w.until("HEADERS 1"); !strings.Contains(got, want) {
				t.Errorf("%d bytes over the bound: got %s, want %s", over, got, want)
			}
		})
	}
}
