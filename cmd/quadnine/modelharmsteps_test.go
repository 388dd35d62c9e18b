package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/model/trees"
)

// takenBack drops version n, whose answers are no numbers, as a canary, and waits
// until it is taken back by itself. No reply may name it.
func (h *harmed) takenBack(n uint64) {
	h.t.Helper()
	dir := h.packFile("score", "score", n, embedded(h.t, math.NaN()), 0, nil, func(p *delta.Pack) {
		p.Manifest.Canary = &delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
	})
	h.must(os.Rename(dir, dir+"-nan"))
	h.commit(dir + "-nan")
	h.until(fmt.Sprint("refusal of score@", n), func() bool {
		for _, m := range h.page().Models {
			for _, r := range m.Refused {
				if m.Name == "score" && r.Number == n {
					return true
				}
			}
		}
		return false
	})
}

// halfCopied commits a drop when a third of its file is there, then copies the rest
// and commits it again.
func (h *harmed) halfCopied() {
	h.t.Helper()
	n := h.take()
	from := h.pack("score", "score", n, 0, nil)
	to := at(h.dir, filepath.Base(from))
	file, err := os.ReadFile(at(from, wholeFile))
	h.must(err)
	h.must(os.Mkdir(to, 0o755))
	f, err := os.Create(at(to, wholeFile))
	h.must(err)
	defer func() { _ = f.Close() }()
	write := func(b []byte) {
		_, err := f.Write(b)
		h.must(err)
	}
	manifest, err := os.ReadFile(at(from, delta.ManifestName))
	h.must(err)
	commit := func() {
		h.must(os.WriteFile(at(to, "part"), manifest, 0o600))
		h.must(os.Rename(at(to, "part"), at(to, delta.ManifestName)))
	}
	write(file[:len(file)/3])
	commit()
	why := ""
	h.until("reason for half a drop", func() bool { why = h.reason(filepath.Base(to)); return why != "" })
	if !strings.Contains(why, "still being written when the manifest was renamed") {
		h.t.Errorf("half a drop: %q", why)
	}
	h.answers(h.n)
	write(file[len(file)/3:])
	commit()
	h.active(n)
}

// large is version n of score with so many bytes more.
func (h *harmed) large(n uint64, size int) []byte {
	h.t.Helper()
	var b bytes.Buffer
	h.must(delta.WriteSafetensors(&b, []delta.TensorBytes{
		{Name: "scale", DType: "F64", Data: binaryFloat(float64(n + 1))},
		{Name: "bias", DType: "F64", Data: binaryFloat(0)},
		{Name: "ballast", DType: "U8", Shape: []int64{int64(size)}, Data: make([]byte, size)},
	}))
	return b.Bytes()
}

// deletedWhileCopied deletes a drop's directory as soon as the store holds a part of
// its file: the drop is put aside, and nothing of it is left. One that was whole by
// then is active; the next is larger.
func (h *harmed) deletedWhileCopied() {
	h.t.Helper()
	parts := func() int {
		names, err := filepath.Glob(filepath.Join(h.store, "tmp", "*"))
		h.must(err)
		return len(names)
	}
	for size := 16 << 20; ; size *= 2 {
		n := h.take()
		name := h.commit(h.packFile("score", "score", n, h.large(n, size), 0, nil, nil))
		h.until("part of a copy", func() bool { return parts() > 0 || h.state("score", n) == "active" })
		h.must(os.RemoveAll(at(h.dir, name)))
		aside := func() bool { return h.log.has("model.quarantined", "drop="+name+" ", "no such file or directory") }
		h.until("end of a copy", func() bool { return aside() || h.state("score", n) == "active" })
		if !aside() {
			h.active(n)
			continue
		}
		h.until("empty store", func() bool { return parts() == 0 })
		if _, err := os.Stat(filepath.Join(h.store, "models", "score", strconv.FormatUint(n, 10))); !errors.Is(err, os.ErrNotExist) {
			h.t.Errorf("the store has something of score@%d: %v", n, err)
		}
		h.answers(h.n)
		return
	}
}

// has reports whether there is a line with all of these parts.
func (l *auditLog) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
	})
}

// together drops forty versions at once, every tenth of them damaged.
func (h *harmed) together() {
	h.t.Helper()
	var dirs []string
	var last uint64
	for i := range 40 {
		last = h.take()
		dir := h.pack("score", "score", last, h.n, nil)
		if i%10 == 5 {
			h.must(os.Truncate(at(dir, delta.ManifestName), 30))
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		h.commit(dir)
	}
	h.active(last)
}

// held keeps a lease on the active version until it is taken away, two versions
// later.
func (h *harmed) held() {
	h.t.Helper()
	lease, err := h.side.models.loader.AcquireVersion("score", h.n)
	h.must(err)
	defer lease.Release()
	kept := h.n
	h.ship(h.n)
	h.ship(h.n)
	h.log.await("model.unload.timeout", "model=score", fmt.Sprintf("version=%d ", kept), "leases=1")
	<-lease.Done()
	if err := lease.With(func(loader.View) error { return nil }); !errors.Is(err, loader.ErrRevoked) {
		h.t.Errorf("who held score@%d gets %v, want %v", kept, err, loader.ErrRevoked)
	}
	h.answers(h.n)
}

// TestAccidentsUnderLoad lets drops go wrong in time: committed too early, deleted
// too early, forty at once, a version that somebody does not let go of, one that
// takes more of the store than it may.
func TestAccidentsUnderLoad(t *testing.T) {
	h := harm(t, modelsConfig{reclaim: 2 * time.Second}, nil)
	h.halfCopied()
	h.deletedWhileCopied()
	h.together()
	h.held()
	h.end()
}

// TestQuotaUnderLoad drops a version that takes more of the store than it may.
func TestQuotaUnderLoad(t *testing.T) {
	h := harm(t, modelsConfig{quotas: []string{"score=3MiB"}}, nil)
	h.refused(badDrop{"more than the store may hold", func(h *harmed, n uint64) string {
		return h.commit(h.packFile("score", "score", n, h.large(n, 4<<20), 0, nil, nil))
	}, []string{"the model's versions take", "of the 3145728 that it may", "over the store's quota by", "raise it, or make room"}})
	h.ship(h.n)
	h.end()
}

// forestFile is version n of a forest of trees that lie all over eight pages, and
// what it answers.
func forestFile(t *testing.T, n uint64) (file []byte, want float64) {
	t.Helper()
	m := trees.Model{Header: trees.Header{Features: []string{"uv"}, Transform: trees.Identity}}
	for i := range 700 {
		leaf := float64(uint64(i)%7 + n)
		m.Trees = append(m.Trees, trees.Tree{Splits: []trees.Split{{Threshold: 1e18, Left: ^0, Right: ^1}}, Leaves: []float64{leaf, -1}})
		want += leaf
	}
	p, err := m.Parts()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = delta.WriteSafetensors(&b, []delta.TensorBytes{
		{Name: "nodes", DType: "U8", Shape: []int64{int64(len(p.Nodes) / trees.NodeSize), trees.NodeSize}, Data: p.Nodes},
		{Name: "roots", DType: "U32", Shape: []int64{int64(len(p.Roots) / 4)}, Data: p.Roots},
		{Name: "categories", DType: "U32", Shape: []int64{0}},
		{Name: "header", DType: "U8", Shape: []int64{int64(len(p.Header))}, Data: p.Header},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), want
}

// TestTruncationUnderLoad cuts the file of a version that is read where it is
// mapped. Its queries get an explained error, or the last right number marked as
// stale, and never a wrong one; nobody else notices, and the next version heals it.
func TestTruncationUnderLoad(t *testing.T) {
	for ingest, file := range map[string]string{"copy": "store/models/forest/1/blob", "inplace": "drops/forest-v1/model.safetensors"} {
		t.Run(ingest, func(t *testing.T) {
			h := harm(t, modelsConfig{ingest: ingest}, nil)
			ship := func(n uint64) {
				t.Helper()
				file, _ := forestFile(t, n)
				h.commit(h.packFile("forest", "forest", n, file, 0, nil, func(p *delta.Pack) {
					p.Manifest.Eval = &delta.Eval{
						Kind: delta.EvalTrees, Metric: "forest", Input: map[string]delta.Input{"uv": {Metric: "uv"}},
						Weights: map[string]string{"header": "header", "nodes": "nodes", "roots": "roots", "categories": "categories"},
					}
				}))
				h.until(fmt.Sprint("forest@", n), func() bool { return h.state("forest", n) == "active" })
			}
			c, asked := h.client(true), 0
			ask := func() answer {
				asked++
				return h.do(c, http.MethodGet, h.url("/api/v2/metrics/query?tenant=acme&metric=forest"), nil, "X-User-Id", fmt.Sprint("u", asked))
			}
			right := func(a answer, n uint64) bool {
				var body struct{ Value *float64 }
				_, want := forestFile(t, n)
				return a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &body) == nil && body.Value != nil && *body.Value == want && a.header.Get("X-Quadnine-Model") == fmt.Sprint("forest@", n)
			}
			ship(1)
			if a := ask(); !right(a, 1) || a.header.Get("X-Quadnine-Degraded") != "" {
				t.Fatalf("before: %d %s", a.status, a.body)
			}
			part, rest, _ := strings.Cut(file, "/")
			h.must(os.Truncate(filepath.Join(map[string]string{"store": h.store, "drops": h.dir}[part], rest), 4096))
			explained := 0
			for range 30 {
				switch a := ask(); {
				case a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "its file was cut or cannot be read"):
					explained++
				case right(a, 1) && strings.HasPrefix(a.header.Get("X-Quadnine-Degraded"), "stale;"):
				default:
					t.Errorf("after the cut: %d, degraded %q: %s", a.status, a.header.Get("X-Quadnine-Degraded"), a.body)
				}
			}
			if explained == 0 {
				t.Error("no query of a file that was cut is explained")
			}
			h.answers(h.n)
			ship(2)
			h.until("right answers by forest@2", func() bool { a := ask(); return right(a, 2) && a.header.Get("X-Quadnine-Degraded") == "" })
			h.ship(h.n)
			h.end()
		})
	}
}
