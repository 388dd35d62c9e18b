package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader/delta"
)

// harmed is a sidecar with two models, score and other, of which replies are asked
// for without pause while drops of score go wrong. Every reply is checked.
type harmed struct {
	*stand

	log   *auditLog
	work  string // where drops are made
	dir   string // that is watched
	store string
	ratio float64
	n     uint64            // score's active version
	key   *delta.PrivateKey // signs; nil: nothing is signed
	next  uint64            // that no drop had yet

	good   sync.Map // *atomic.Int64, right replies by x-quadnine-model
	wrong  atomic.Int64
	halted atomic.Bool
	wg     sync.WaitGroup
}

// harm starts the sidecar, brings in score@1 and other@1, and starts 6 callers, on
// HTTP/2 and HTTP/1.1.
func harm(t *testing.T, cfg modelsConfig, key *delta.PrivateKey) *harmed {
	t.Helper()
	cfg.dir, cfg.store = t.TempDir(), t.TempDir()
	h := &harmed{log: newAuditLog(t), work: t.TempDir(), dir: cfg.dir, store: cfg.store, next: 1, key: key}
	h.stand = newStand(t, standConfig{shards: 2, models: cfg, logTo: h.log, yaml: "tenantBreaker: {openFor: 1s}"})
	value := func(metric string) float64 {
		v, err := h.app.Query(statsapp.Query{Tenant: "acme", Metric: metric, To: statsapp.MaxTime})
		if err != nil {
			t.Fatal(err)
		}
		return v.Value
	}
	h.ratio = value("uv") / value("pv")
	h.commit(h.pack("other", "other", 1, 0, nil))
	h.until("other@1", func() bool { return h.state("other", 1) == "active" })
	h.ship(0)
	for i := range 6 {
		c, metric := h.client(i%2 == 0), []string{"score", "other"}[i/2%2]
		h.wg.Go(func() {
			for u := 0; !h.halted.Load(); u++ {
				h.ask(c, metric, fmt.Sprint("user-", i, "-", u%40))
			}
		})
	}
	t.Cleanup(h.wg.Wait)
	t.Cleanup(func() { h.halted.Store(true) }) // last in, first out
	return h
}

// ask asks once and judges the reply: whole, by a version of that model, with this
// version's number and no other's.
func (h *harmed) ask(c *http.Client, metric, user string) {
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url("/api/v2/metrics/query?tenant=acme&metric="+metric), http.NoBody)
	if err != nil {
		h.t.Error(err)
		return
	}
	req.Header.Set("X-User-Id", user)
	res, err := c.Do(req)
	var text bytes.Buffer
	if err == nil {
		_, err = text.ReadFrom(res.Body)
		_ = res.Body.Close()
	}
	if err != nil {
		if h.t.Context().Err() == nil { // else the test is over
			h.bad("%s: %v", metric, err)
		}
		return
	}
	var body struct {
		Value *float64
		Model string
	}
	by, marked := res.Header.Get("X-Quadnine-Model"), res.Header.Get("X-Quadnine-Degraded")
	model, number, _ := strings.Cut(by, "@")
	n, _ := strconv.ParseUint(number, 10, 64)
	switch want := h.value(n); {
	case res.StatusCode != http.StatusOK || json.Unmarshal(text.Bytes(), &body) != nil || body.Value == nil:
		h.bad("%s: %d by %q: %s", metric, res.StatusCode, by, text.Bytes())
	case marked != "" && marked != "previous; reason=non-finite": // that one fell to a canary, and the active version answered
		h.bad("%s: degraded %q by %q: %s", metric, marked, by, text.Bytes())
	case model != metric || body.Model != by || !(math.Abs(*body.Value-want) <= 1e-12*math.Abs(want)):
		h.bad("%s: %v by %q, want %v: %s", metric, *body.Value, by, want, text.Bytes())
	default:
		h.count(by).Add(1)
	}
}

func (h *harmed) bad(format string, args ...any) {
	if h.wrong.Add(1) <= 5 {
		h.t.Errorf("a wrong reply: "+format, args...)
	}
}

func (h *harmed) count(version string) *atomic.Int64 {
	n, _ := h.good.LoadOrStore(version, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// answers waits until both models gave more right replies, score by version n.
func (h *harmed) answers(n uint64) {
	h.t.Helper()
	const more = 30
	for _, by := range []string{fmt.Sprint("score@", n), "other@1"} {
		at := h.count(by).Load() + more
		h.until(fmt.Sprint("answers by ", by), func() bool { return h.count(by).Load() > at })
	}
}

// until waits for ok; the first wrong reply ends the test.
func (h *harmed) until(what string, ok func() bool) {
	h.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for late := time.After(30 * time.Second); !ok(); { // a bound for a broken test, not a pace
		select {
		case <-look.C:
			if h.wrong.Load() == 0 {
				continue
			}
		case <-late:
		}
		h.t.Fatalf("%d wrong replies, no %s:\n%s", h.wrong.Load(), what, h.admin("/models"))
	}
}

// end stops the callers and reports.
func (h *harmed) end() {
	h.t.Helper()
	h.halted.Store(true)
	h.wg.Wait()
	total := int64(0)
	h.good.Range(func(_, n any) bool { total += n.(*atomic.Int64).Load(); return true })
	h.t.Logf("%d right replies, %d wrong", total, h.wrong.Load())
	if h.wrong.Load() != 0 {
		h.t.Errorf("%d wrong replies", h.wrong.Load())
	}
}

// value is what version n of either model answers.
func (h *harmed) value(n uint64) float64 { return float64(n+1) * h.ratio }

// file is version n of either model.
func (h *harmed) file(n uint64) []byte {
	return embedded(h.t, float64(n+1), int(n%4)*200, 990) // a few rows, so that a chain copies few
}

// pack makes a drop beside the watched directory; base 0: a whole one. Versions are
// active at once, but for what change says.
func (h *harmed) pack(model, metric string, n, base uint64, change func(*delta.Pack)) (dir string) {
	h.t.Helper()
	var from []byte
	if base != 0 {
		from = h.file(base)
	}
	return h.packFile(model, metric, n, h.file(n), base, from, change)
}

// packFile is pack for any file.
func (h *harmed) packFile(model, metric string, n uint64, file []byte, base uint64, from []byte, change func(*delta.Pack)) (dir string) {
	h.t.Helper()
	dir = filepath.Join(h.work, fmt.Sprint(model, "-v", n))
	p := &delta.Pack{Key: h.key, Manifest: delta.Manifest{
		Model: model, Version: n, SchemaVersion: 1, Canary: &delta.Canary{},
		Eval: &delta.Eval{
			Kind: delta.EvalRatio, Metric: metric,
			Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
			Weights: map[string]string{"scale": "scale", "bias": "bias"},
		},
	}}
	if change != nil {
		change(p)
	}
	h.must(os.Mkdir(dir, 0o755))
	root, err := os.OpenRoot(dir)
	h.must(err)
	defer func() { _ = root.Close() }()
	if base == 0 {
		_, err = p.Full(h.t.Context(), root, bytes.NewReader(file))
	} else {
		_, _, err = p.Delta(h.t.Context(), root, base, bytes.NewReader(from), bytes.NewReader(file), false)
	}
	h.must(err)
	return dir
}

func (h *harmed) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// commit drops what pack made: all of it is there at once.
func (h *harmed) commit(dir string) (name string) {
	h.t.Helper()
	name = filepath.Base(dir)
	h.must(os.Rename(dir, filepath.Join(h.dir, name)))
	return name
}

// take returns a number that no version of score had yet.
func (h *harmed) take() uint64 {
	h.next++
	return h.next - 1
}

// ship brings in a good version of score, as a delta from version base, and waits
// until it is active.
func (h *harmed) ship(base uint64) {
	h.t.Helper()
	n := h.take()
	h.commit(h.pack("score", "score", n, base, nil))
	h.active(n)
}

// active waits until version n of score is active, and answers when there are
// callers.
func (h *harmed) active(n uint64) {
	h.t.Helper()
	h.until(fmt.Sprint("score@", n), func() bool { return h.state("score", n) == "active" })
	if h.n != 0 {
		h.answers(n)
	}
	h.n = n
}

// page is what /models says.
type harmPage struct {
	Models []struct {
		Name     string
		Versions []struct {
			Number        uint64
			State, Expect string
		}
		Refused []struct {
			Number uint64
			Reason string
		}
		Quarantined []struct{ Drop, Reason string }
	}
}

func (h *harmed) page() (p harmPage) {
	h.t.Helper()
	h.must(json.Unmarshal([]byte(h.admin("/models?format=json")), &p))
	return p
}

// state returns the state of a version.
func (h *harmed) state(model string, n uint64) string {
	for _, m := range h.page().Models {
		for _, v := range m.Versions {
			if m.Name == model && v.Number == n {
				return v.State
			}
		}
	}
	return ""
}

// reason returns why a drop is not used: it is quarantined, or waits.
func (h *harmed) reason(drop string) string {
	for _, m := range h.page().Models {
		for _, q := range m.Quarantined {
			if q.Drop == drop {
				return q.Reason
			}
		}
		for _, v := range m.Versions {
			if why, ok := strings.CutPrefix(v.Expect, "drop "+drop+": "); ok && v.State == "waiting" && !strings.HasPrefix(why, "its turn") {
				return why
			}
		}
	}
	return ""
}
