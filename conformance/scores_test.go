package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
)

// score is a query that the model answers.
const score = "/api/v2/metrics/query?tenant=acme&metric=score"

// scores asks for the score as many users, without pause, and judges every reply
// by what numpy says.
type scores struct {
	want map[string]float64       // by what x-quadnine-model says
	seen map[string]*atomic.Int64 // right replies; the same keys

	good, failed, mixed, back atomic.Int64

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// askScores starts 6 callers of 40 users each.
func askScores(t *testing.T, s *sidecar, want map[string]float64) *scores {
	t.Helper()
	w := &scores{want: want, seen: make(map[string]*atomic.Int64, len(want))}
	for name := range want {
		w.seen[name] = new(atomic.Int64)
	}
	w.ctx, w.stop = context.WithCancel(deadline(t, time.Duration(soak(4, 20))*within))
	t.Cleanup(w.wg.Wait) // last in, first out: after the stop below
	t.Cleanup(w.stop)
	for i := range 6 {
		c := client(t, i%2 == 0) // HTTP/2 and HTTP/1.1 side by side
		w.wg.Go(func() {
			last := make(map[string]uint64) // version by user: nobody is sent back to an older one
			for n := 0; w.ctx.Err() == nil; n++ {
				w.ask(t, c, s.url(score), fmt.Sprintf("user-%d-%d", i, n%40), last)
			}
		})
	}
	return w
}

// ask asks once as user and judges the reply.
func (w *scores) ask(t *testing.T, c *http.Client, url, user string, last map[string]uint64) {
	t.Helper()
	r, err := askScore(w.ctx, c, url, user)
	if w.ctx.Err() != nil {
		return // the watch is over
	}
	if err != nil {
		if w.failed.Add(1) <= 5 {
			t.Errorf("%s: %v, want a whole 200", user, err)
		}
		return
	}
	want, known := w.want[r.model]
	if !known || !(math.Abs(r.value-want) <= 1e-12*math.Abs(want)) { // so that NaN is wrong too
		if w.mixed.Add(1) <= 5 {
			t.Errorf("%s: %v by %q, numpy says %v", user, r.value, r.model, want)
		}
		return
	}
	if r.number < last[user] && w.back.Add(1) <= 5 {
		t.Errorf("%s: version %d after version %d", user, r.number, last[user])
	}
	last[user] = r.number
	w.seen[r.model].Add(1)
	w.good.Add(1)
}

// count returns how many right replies version n, one of those in want, gave.
func (w *scores) count(n int) int64 { return w.seen[modelName(n)].Load() }

// wrong returns how many replies were not right.
func (w *scores) wrong() int64 { return w.failed.Load() + w.mixed.Load() + w.back.Load() }

// await waits until ok says yes; the first wrong reply ends the test.
func (w *scores) await(t *testing.T, s *sidecar, what string, ok func() bool) {
	t.Helper()
	if !until(w.ctx, func() bool { return w.wrong() != 0 || ok() }) || w.wrong() != 0 {
		_, page, err := get(t.Context(), http.DefaultClient, "http://"+s.admin+"/models")
		t.Fatalf("%d wrong replies, no %s; /models (%v):\n%s", w.wrong(), what, err, page)
	}
}

// end stops the callers and reports.
func (w *scores) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	t.Logf("%d replies equal numpy's, %d failed, %d mixed", w.good.Load(), w.failed.Load(), w.mixed.Load())
	if w.wrong() != 0 {
		t.Errorf("%d failed, %d mixed, %d times a user went back to an older version; want none", w.failed.Load(), w.mixed.Load(), w.back.Load())
	}
}

// modelName is version n as x-quadnine-model names it.
func modelName(n int) string { return fmt.Sprint("score@", n) }

// scored is a reply to a query for the score.
type scored struct {
	value  float64
	model  string // x-quadnine-model
	number uint64 // the version in it
}

// askScore asks for the score as user; an error is a reply that is not a whole
// 200 with a number and a model.
func askScore(ctx context.Context, c *http.Client, url, user string) (r scored, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return r, err
	}
	req.Header.Set("X-User-Id", user)
	res, err := c.Do(req)
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	r.model = res.Header.Get("X-Quadnine-Model")
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return r, err
	}
	var body struct{ Value *float64 }
	if res.StatusCode != http.StatusOK || json.Unmarshal(text, &body) != nil || body.Value == nil {
		return r, fmt.Errorf("%s by %q, degraded %q: %q", res.Status, r.model, res.Header.Get("X-Quadnine-Degraded"), text)
	}
	r.value = *body.Value
	if _, err := fmt.Sscanf(r.model, "score@%d", &r.number); err != nil {
		return r, fmt.Errorf("x-quadnine-model: %q: %w", r.model, err)
	}
	return r, nil
}

// loadScores lets h2load ask for the score, run after run, until the returned
// function is called; that one waits for the last run and reports.
func loadScores(t *testing.T, s *sidecar) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(deadline(t, time.Duration(soak(4, 20))*within))
	var stopped atomic.Bool
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(stop)
	var asked int
	var took time.Duration
	run := load.Run{Addr: s.addr, Paths: []string{score}, Requests: 4000, Clients: 4, Streams: 16, CPU: -1}
	wg.Go(func() {
		for !stopped.Load() {
			res, err := run.Do(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			asked, took = asked+res.OK, took+res.Took
		}
	})
	return func() {
		t.Helper()
		stopped.Store(true)
		wg.Wait()
		t.Logf("h2load: %d requests with a 2xx, %.0f a second", asked, float64(asked)/max(took.Seconds(), 1e-3))
	}
}

// modelsPage is what /models says as JSON.
type modelsPage struct {
	Models []struct {
		Name     string
		Versions []struct {
			Number uint64
			State  string
		}
		Refused []struct {
			Number uint64
			Reason string
		}
		Quarantined []struct{ Drop, Reason string }
	}
}

// models reads /models; an unanswered question is an empty page.
func (s *sidecar) models(ctx context.Context) (p modelsPage) {
	status, body, err := get(ctx, http.DefaultClient, "http://"+s.admin+"/models?format=json")
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &p) != nil {
		return modelsPage{}
	}
	return p
}

// state returns version n's state, "" when it is not there.
func (p modelsPage) state(n int) string {
	for _, m := range p.Models {
		for _, v := range m.Versions {
			if m.Name == "score" && v.Number == uint64(n) {
				return v.State
			}
		}
	}
	return ""
}

// refused returns why version n is refused, "" when it is not.
func (p modelsPage) refused(n int) string {
	for _, m := range p.Models {
		for _, r := range m.Refused {
			if m.Name == "score" && r.Number == uint64(n) {
				return strings.TrimSpace(r.Reason)
			}
		}
	}
	return ""
}
