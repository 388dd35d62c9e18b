//go:build invariants

package proxy

import (
	"bytes"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/internal/invariant"
	"github.com/quadnine/quadnine/snapshot"
)

// What still reads of an exchange that is over reads nothing of what it held: the
// other tests would find who does.
func TestWhatIsGivenBackIsOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{RetryBody: 100})
		var kept [][]byte
		l := r.server.loops[0]
		r.app("app:80", func(http.ResponseWriter, *http.Request) {})
		r.get("/secret").want(t, 200, "")
		synctest.Wait()
		done := make(chan struct{})
		l.post(func() {
			defer close(done)
			for _, x := range l.free {
				x.req.Add("x-tenant-id", "secret")
				kept = append(kept, x.req.Get("x-tenant-id"))
				x.reset()
			}
		})
		<-done
		if len(kept) == 0 {
			t.Fatal("no exchange was recycled")
		}
		for _, k := range kept {
			if !bytes.Equal(k, bytes.Repeat([]byte{invariant.Poisoned}, len(k))) {
				t.Errorf("%q is still there", k)
			}
		}
	})
}
