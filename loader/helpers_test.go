package loader

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// shape is how a test model's file is laid out.
type shape struct {
	dataAt int64 // where the data begins; the header is padded up to there
	sizes  []int64
}

var (
	aligned = shape{4096, []int64{40 * 4096, 24 * 4096, 200 * 4096, 3 * 4096, 8}}
	tiny    = shape{4096, []int64{2 * 4096, 4096, 6 * 4096, 4096, 8}}
	ragged  = shape{1000, []int64{40*4096 + 8, 24*4096 + 16, 200*4096 + 24, 13, 8}}
)

var names = []string{"same", "dense", "rows", "small", "weight"}

// tensorBytes is what tensor i of a version holds. "same" never changes, "dense"
// wholly, of "rows" a few pages and one long run, "small" its first byte.
func tensorBytes(i int, size int64, version uint64) []byte {
	b := make([]byte, size)
	for at := range b {
		b[at] = byte(i) ^ byte(at) ^ byte(at>>8)
	}
	switch names[i] {
	case "dense":
		for at := range b {
			b[at] += byte(version) + byte(version>>8)*3
		}
	case "rows":
		pages := uint64(size / 4096) // 200, but for tiny
		for _, page := range []uint64{version % (pages - 1), (version * 7) % (pages - 1), 3} {
			binary.LittleEndian.PutUint64(b[page*4096+100:], version)
		}
		for at := 100 * 4096; at < min(130*4096, len(b)); at += 512 {
			binary.LittleEndian.PutUint64(b[at:], version)
		}
	case "small":
		b[0] = byte(version)
	case "weight":
		binary.LittleEndian.PutUint64(b, math.Float64bits(float64(version)))
	}
	return b
}

var files sync.Map // of shape and version → bytes; they are made once

// file returns a version's safetensors bytes. Do not change them.
func (s shape) file(version uint64) []byte {
	key := fmt.Sprint(s, version)
	if b, ok := files.Load(key); ok {
		return b.([]byte)
	}
	b := s.build(version)
	files.Store(key, b)
	return b
}

func (s shape) build(version uint64) []byte {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	head := make(map[string]entry)
	var data []byte
	for i, n := range s.sizes {
		e := entry{"U8", []int64{n}, [2]int64{int64(len(data)), int64(len(data)) + n}}
		if names[i] == "weight" {
			e.DType, e.Shape = "F64", []int64{1}
		}
		head[names[i]] = e
		data = append(data, tensorBytes(i, n, version)...)
	}
	h, err := json.Marshal(head)
	if err != nil || int64(len(h)) > s.dataAt-8 {
		panic(fmt.Sprint("header of ", len(h), " bytes: ", err))
	}
	h = append(h, bytes.Repeat([]byte{' '}, int(s.dataAt)-8-len(h))...)
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}

// check reports whether a view shows version n, and nothing else.
func (s shape) check(w View, n uint64) error {
	if len(w.Tensors()) != len(names) {
		return fmt.Errorf("%d tensors", len(w.Tensors()))
	}
	want := s.file(n)[s.dataAt:]
	for i, size := range s.sizes {
		_, b, ok := w.Tensor(names[i])
		if !ok {
			return fmt.Errorf("no tensor %q", names[i])
		}
		if !bytes.Equal(b, want[:size]) {
			return fmt.Errorf("tensor %q is not v%d's", names[i], n)
		}
		want = want[size:]
	}
	if b, ok := w.Contiguous(); ok && !bytes.Equal(b, s.file(n)) {
		return fmt.Errorf("the contiguous view is not v%d", n)
	}
	if _, _, ok := w.Tensor("absent"); ok {
		return errors.New("a tensor that is not there was found")
	}
	return nil
}

// fakeSource is a Source that tests feed.
type fakeSource chan Candidate

func (f fakeSource) Candidates() <-chan Candidate { return f }

// fakeJudge says what tests tell it to.
type fakeJudge struct {
	mu   sync.Mutex
	says map[uint64]Verdict

	compared map[uint64]bool
}

func (j *fakeJudge) sayCompared(n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.compared == nil {
		j.compared = make(map[uint64]bool)
	}
	j.compared[n] = true
}

func (j *fakeJudge) wasCompared(shadow *Info) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compared[shadow.Number]
}

func (j *fakeJudge) say(n uint64, v Verdict) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.says[n] = v
}

func (j *fakeJudge) Verdict(canary, active *Info) (Verdict, string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if canary.Number == active.Number || canary.Model != active.Model {
		return Rollback, "the judge was asked about nonsense"
	}
	return j.says[canary.Number], "error rate"
}

// rig is a loader with its store and drops in a test's directory.
type rig struct {
	t     testing.TB
	l     *Loader
	opts  Options
	shape shape
	drops string
	src   fakeSource
	judge *fakeJudge
}

func newRig(tb testing.TB, change func(*Options)) *rig {
	tb.Helper()
	dir := tb.TempDir()
	r := &rig{
		t: tb, shape: aligned, drops: filepath.Join(dir, "drops"), src: make(fakeSource), judge: &fakeJudge{says: make(map[uint64]Verdict)},
	}
	must(tb, os.Mkdir(r.drops, 0o755))
	r.opts = Options{Store: filepath.Join(dir, "store"), Source: r.src, Judge: r.judge, Compared: r.judge.wasCompared}
	if change != nil {
		change(&r.opts)
	}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	l, err := Open(r.t.Context(), r.opts)
	must(r.t, err)
	r.l = l
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// pack writes a drop. base 0 makes it a full one.
func (r *rig) pack(name string, version, base uint64, change func(*delta.Pack)) {
	r.t.Helper()
	must(r.t, packInto(filepath.Join(r.drops, name), r.shape, version, base, change))
}

func packInto(dir string, s shape, version, base uint64, change func(*delta.Pack)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, Canary: &delta.Canary{Weight: 5, PromoteAfter: time.Minute}}}
	if change != nil {
		change(p)
	}
	target := bytes.NewReader(s.file(version))
	if base == 0 {
		_, err = p.Full(context.Background(), root, target)
	} else {
		_, _, err = p.Delta(context.Background(), root, base, bytes.NewReader(s.file(base)), target, false)
	}
	return err
}

// candidate describes a drop to the loader.
func (r *rig) candidate(name string) Candidate {
	dir := filepath.Join(r.drops, name)
	return Candidate{Drop: name, Dir: dir, Open: func() (*os.Root, error) { return os.OpenRoot(dir) }}
}

func (r *rig) report(name string) { r.src <- r.candidate(name) }

// drop packs and reports a version.
func (r *rig) drop(version, base uint64, change func(*delta.Pack)) {
	r.t.Helper()
	name := "v" + strconv.FormatUint(version, 10)
	r.pack(name, version, base, change)
	r.report(name)
}

func atOnce(p *delta.Pack) { p.Manifest.Canary.Weight = 0 }

// serves checks that version n is active and shows its own bytes.
func (r *rig) serves(n uint64) {
	r.t.Helper()
	lease, err := r.l.Acquire("score", math.MaxUint64) // the last draw a canary gets
	if err != nil {
		r.t.Fatal(err)
	}
	defer lease.Release()
	if got := lease.Info().Number; got != n {
		r.t.Fatalf("v%d serves, want v%d; quarantined: %+v", got, n, r.l.Quarantined())
	}
	must(r.t, lease.With(func(w View) error { return r.shape.check(w, n) }))
}

// await waits for an event of a kind about a version.
func (r *rig) await(k Kind, n uint64) Event {
	r.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case ev := <-r.l.Events():
			if ev.Kind == k && ev.Version == n {
				return ev
			}
			if ev.Kind == EventQuarantined && k != EventQuarantined {
				r.t.Fatalf("while waiting for %s of v%d: %+v", k, n, ev)
			}
		case <-late:
			r.t.Fatalf("no %s of v%d; quarantined: %+v", k, n, r.l.Quarantined())
		}
	}
}

func (r *rig) close() {
	r.t.Helper()
	must(r.t, r.l.Close())
}
