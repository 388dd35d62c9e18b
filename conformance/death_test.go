package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// TestUpstreamsDieAndReturn kills every upstream process with SIGKILL under load
// and starts them again. Queries that were answered before stay answered with
// the same whole bodies, throughout; after the return they are fresh again.
func TestUpstreamsDieAndReturn(t *testing.T) {
	tenants := make([]string, 0, 16)
	for i := range 16 {
		tenants = append(tenants, fmt.Sprintf("t-%d", i))
	}
	ups := addrs(t, 3)
	args := []string{"--degrade", "/api/v2/metrics/query"}
	for _, u := range ups {
		args = append(args, "--upstream", "http://"+u)
	}
	procs := startAll(t, ups, tenants)
	s := startSidecar(t, nil, args...)

	want := map[string][]byte{}
	warm := client(t, true)
	for _, tenant := range tenants {
		for _, metric := range []string{"pv", "uv"} {
			path := "/api/v2/metrics/query?tenant=" + tenant + "&metric=" + metric
			want[path] = mustGet(t, warm, s.url(path))
		}
	}
	for range soak(1, 20) {
		w := watch(t, s, want)
		w.await(t, "fresh answers before the death", func() bool { return w.fresh.Load() > 200 })
		for _, p := range procs {
			p.Kill()
		}
		w.stale.Store(0)
		w.await(t, "stale answers while everything is dead", func() bool { return w.stale.Load() > 500 })
		procs = startAll(t, ups, tenants)
		w.fresh.Store(0)
		w.await(t, "fresh answers after the return", func() bool { return w.fresh.Load() > 500 })
		w.end(t)
		allFresh(t, s, want)
	}
}

// degraded is what a stale answer must say: the step, the true reason and the
// age in seconds.
var degraded = regexp.MustCompile(`^stale; reason=[a-z0-9-]+; age=\d+$`)

// allFresh waits until every key is answered by the upstream again; a breaker
// that opened may take its 30 s.
func allFresh(t *testing.T, s *sidecar, want map[string][]byte) {
	t.Helper()
	ctx, c := deadline(t, 2*within), client(t, true)
	for path := range want {
		ok := until(ctx, func() bool {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), http.NoBody)
			if err != nil {
				return false
			}
			res, err := c.Do(req)
			if err != nil {
				return false
			}
			return res.Body.Close() == nil && res.StatusCode == http.StatusOK && res.Header.Get("X-Quadnine-Degraded") == ""
		})
		if !ok {
			t.Errorf("%s is still not answered by the upstream, long after its return", path)
		}
	}
}

// startAll starts one statistics service at each address; the same seed gives
// every life of it the same data.
func startAll(t *testing.T, at, tenants []string) []*proc.Proc {
	t.Helper()
	procs := make([]*proc.Proc, 0, len(at))
	for _, a := range at {
		procs = append(procs, startStats(t, a, tenants))
	}
	return procs
}

// watcher asks for warm keys without pause and judges every answer.
type watcher struct {
	fresh, stale, wrong atomic.Int64

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// watch starts 8 callers.
func watch(t *testing.T, s *sidecar, want map[string][]byte) *watcher {
	t.Helper()
	w := &watcher{}
	w.ctx, w.stop = context.WithCancel(deadline(t, 4*within))
	for i := range 8 {
		c := client(t, i%2 == 0) // HTTP/2 and HTTP/1.1 side by side
		w.wg.Go(func() {
			for w.ctx.Err() == nil {
				for path, body := range want {
					w.ask(t, c, s.url(path), body)
				}
			}
		})
	}
	return w
}

// ask asks once and counts the answer.
func (w *watcher) ask(t *testing.T, c *http.Client, url string, want []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return
	}
	res, err := c.Do(req)
	var got bytes.Buffer
	if err == nil {
		defer res.Body.Close()
		_, err = got.ReadFrom(res.Body)
	}
	switch {
	case w.ctx.Err() != nil: // the watch is over
	case err != nil || res.StatusCode != http.StatusOK || !bytes.Equal(got.Bytes(), want):
		if w.wrong.Add(1) <= 5 {
			t.Errorf("%s: %v, %q, want a whole 200 %q", url, err, got.Bytes(), want)
			if res != nil {
				t.Logf("%s %v", res.Status, res.Header)
			}
		}
	case res.Header.Get("X-Quadnine-Degraded") != "":
		if d := res.Header.Get("X-Quadnine-Degraded"); !degraded.MatchString(d) {
			t.Errorf("%s: x-quadnine-degraded: %q, want %s", url, d, degraded)
		}
		w.stale.Add(1)
	default:
		w.fresh.Add(1)
	}
}

// await waits until ok says yes.
func (w *watcher) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !until(w.ctx, ok) {
		t.Errorf("no %s: %d fresh, %d stale, %d wrong", what, w.fresh.Load(), w.stale.Load(), w.wrong.Load())
	}
}

// end stops the callers and reports.
func (w *watcher) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	if n := w.wrong.Load(); n != 0 {
		t.Errorf("%d queries of warm keys got something else than their whole answer", n)
	}
}
