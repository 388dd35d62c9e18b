package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPowerCut plays a model's life on a disk that is written down, and cuts the
// power after every single step of it: what was not synced is lost, all of it,
// only bytes, only names, each thing alone, each thing but one. Each disk that can be
// left is opened: it must serve the old version or the new one, whole, hold
// nothing that belongs to nobody, know every refusal that was acknowledged, and
// take the next drop.
func TestPowerCut(t *testing.T) {
	cuts, disks, bad := cutPower(t, 5, func(string) bool { return false })
	for _, err := range bad {
		t.Error(err)
	}
	t.Logf("%d power cuts, %d different disks", cuts, disks)
	if disks < 200 {
		t.Errorf("only %d disks were tried", disks)
	}
}

// TestPowerCutFindsWhatIsNotSynced makes sure that TestPowerCut can fail: on a disk
// that forgets to sync one thing, it does.
func TestPowerCutFindsWhatIsNotSynced(t *testing.T) {
	for name, deaf := range map[string]func(path string) bool{
		"the store's directory": func(path string) bool { return path == "" },
		"state.json":            func(path string) bool { return path == stateFile+".new" },
		"blobs":                 func(path string) bool { return filepath.Base(path) == blobFile },
		"models' directories":   func(path string) bool { return path == "models/score" },
	} {
		t.Run(name, func(t *testing.T) {
			if _, disks, bad := cutPower(t, 1, deaf); len(bad) == 0 {
				t.Errorf("none of %d disks is found bad", disks)
			} else {
				t.Log(bad[0])
			}
		})
	}
}

// cutPower plays a life on a disk that does not sync what it is deaf to, and cuts
// the power after each step, until so many disks were found bad.
func cutPower(t *testing.T, most int, deaf func(path string) bool) (cuts, disks int, bad []error) {
	t.Helper()
	var j *journal
	r := newRig(t, func(o *Options) {
		j = newJournal(o.Store)
		j.deaf = deaf
		must(t, osVolume().mkdirAll(o.Store))
		o.volume, o.chains, o.prompt = new(j.volume()), chains{share: 100, extents: 1 << 20, deltas: 2}, true
		j.mark("nothing yet", []uint64{0}, nil)
	})
	r.shape = tiny
	life(r, j)
	r.pack("v100", 100, 0, atOnce)
	rnd := rand.New(rand.NewPCG(7, 7))
	seen := make(map[string]bool)
	for n := range len(j.steps) + 1 {
		var want claim
		for _, m := range j.marks {
			if m.at <= n {
				want = m
			}
		}
		for _, lost := range losses(j, n, rnd) {
			cuts++
			disk := j.after(n, lost)
			key := fmt.Sprint(disk.sum(), want.serve, want.refused)
			if seen[key] {
				continue
			}
			seen[key] = true
			if err := r.afterCut(disk, want); err != nil {
				bad = append(bad, fmt.Errorf("power cut after step %d of %d (%s), %s: %w\nlost:%s", n, len(j.steps), j.steps[max(n-1, 0)].what, want.what, err, told(j, lost)))
				if len(bad) == most {
					return cuts, len(seen), bad
				}
			}
		}
	}
	return cuts, len(seen), bad
}

// life plays ingest, activation, rollback, canaries, compaction to a delta and to
// a full file, removal and a restart.
func life(r *rig, j *journal) {
	both := func(what string, old, next uint64, refused ...uint64) { j.mark(what, []uint64{old, next}, refused) }
	now := func(what string, n uint64, refused ...uint64) { j.mark(what, []uint64{n}, refused) }
	comes := func(n, base, from uint64, refused ...uint64) {
		r.t.Helper()
		both(fmt.Sprintf("v%d comes", n), from, n, refused...)
		r.drop(n, base, atOnce)
		r.await2(EventActive, n)
		r.await2(EventDurable, n)
		r.quiesce()
		now(fmt.Sprintf("v%d is durable", n), n, refused...)
	}
	comes(1, 0, 0)
	comes(2, 1, 1)
	both("v2 is rolled back", 2, 1)
	must(r.t, r.l.Rollback(r.t.Context(), "score", 2, "wrong"))
	now("v2 was rolled back", 1, 2)
	r.await2(EventUnloadSuccess, 2)
	r.quiesce()
	comes(3, 1, 1, 2)
	both("v4 is a canary", 3, 4, 2)
	r.drop(4, 3, nil)
	r.await2(EventCanary, 4)
	r.quiesce()
	r.judge.say(4, Promote)
	r.await2(EventDurable, 4)
	now("v4 is durable", 4, 2)
	both("v5 is a canary", 4, 5, 2)
	r.drop(5, 4, nil)
	r.await2(EventCanary, 5)
	must(r.t, r.l.Rollback(r.t.Context(), "score", 5, "wrong"))
	now("v5 was rolled back", 4, 2, 5)
	r.await2(EventUnloadSuccess, 5)
	r.quiesce()
	both("v6 comes, and is compacted", 4, 6, 2, 5) // v1 < v3 < v4 < v6: one delta
	r.drop(6, 4, atOnce)
	r.await2(EventCompacted, 6)
	r.quiesce()
	now("v6 was compacted", 6, 2, 5)
	comes(7, 6, 6, 2, 5)
	comes(8, 7, 7, 2, 5) // v3 and v4 go
	j.mark("restart", []uint64{8}, []uint64{2, 5})
	r.close()
	r.open()
	r.serves(8)
	r.quiesce()
	must(r.t, r.l.call(r.t.Context(), func() error { r.l.opts.chains.share = 1e-9; return nil }))
	both("v9 comes, and is compacted to a full file", 8, 9, 2, 5)
	r.drop(9, 8, atOnce)
	r.await2(EventCompacted, 9)
	r.quiesce()
	now("v9 was compacted", 9, 2, 5)
	comes(10, 0, 9, 2, 5)
	comes(11, 0, 10, 2, 5) // everything else goes
	_, err := r.l.GC(r.t.Context(), false)
	must(r.t, err)
	r.close()
	r.open()
	r.serves(11)
	r.close()
}

// losses are what a power cut after n steps may lose.
func losses(j *journal, n int, rnd *rand.Rand) (out []map[int]bool) {
	open := j.undone(n)
	all, contents, names, some := map[int]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}
	for _, i := range open {
		all[i] = true
		if k := j.steps[i].kind; k == write || k == empty {
			contents[i] = true
		} else {
			names[i] = true
		}
		some[i] = rnd.IntN(2) == 0
	}
	singles := open
	if os.Getenv("QUADNINE_KILLS") == "" { // make soak tries each of them
		singles = open[max(0, len(open)-1):]
	}
	for _, i := range singles {
		but := map[int]bool{}
		for _, k := range open {
			but[k] = k != i
		}
		out = append(out, map[int]bool{i: true}, but)
	}
	return append(out, map[int]bool{}, all, contents, names, some)
}

func told(j *journal, lost map[int]bool) string {
	var out strings.Builder
	for i, s := range j.steps {
		if lost[i] {
			fmt.Fprintf(&out, "\n\t%d %s", i, s.what)
		}
	}
	return out.String()
}

// unsynced is a disk that syncs nothing: the tests that look at what a power cut
// left have none of their own.
func unsynced() *volume {
	v := osVolume()
	create := v.create
	v.create = func(name string) (file, error) {
		f, err := create(name)
		return lazy{f}, err
	}
	v.syncPath = func(string) error { return nil }
	return &v
}

type lazy struct{ file }

func (lazy) Sync() error { return nil }

// afterCut opens what a power cut left.
func (r *rig) afterCut(disk diskImage, want claim) error {
	store := filepath.Join(r.drops, "left", "store")
	defer os.RemoveAll(store)
	if err := errors.Join(osVolume().mkdirAll(store), disk.put(store)); err != nil {
		return err
	}
	s := rig{t: r.t, shape: r.shape, drops: r.drops, src: make(fakeSource)}
	s.opts = Options{Store: store, Source: s.src, volume: unsynced(), chains: r.opts.chains, prompt: true}
	l, err := Open(r.t.Context(), s.opts)
	if err != nil {
		return err
	}
	defer l.Close()
	s.l = l
	if err := s.keeps(want); err != nil {
		return fmt.Errorf("at once: %w", err)
	}
	s.quiesce()
	if err := s.keeps(want); err != nil {
		return fmt.Errorf("later: %w", err)
	}
	if err := s.nothingElse(); err != nil {
		return err
	}
	for _, v := range l.Versions("score") {
		if v.State == Canary { // it keeps the next one waiting until it is decided
			if err := l.Activate(r.t.Context(), "score", v.Number); err != nil {
				return err
			}
		}
	}
	s.report("v100")
	for ev := range l.Events() {
		if ev.Version == 100 && ev.Kind == EventActive {
			break
		}
		if ev.Version == 100 && ev.Kind == EventQuarantined {
			return fmt.Errorf("the next drop: %+v", ev)
		}
	}
	s.serves(100)
	return nil
}

// keeps checks what serves, and what is refused.
func (r *rig) keeps(want claim) error {
	info, _ := r.l.Current("score")
	if !slices.Contains(want.serve, info.Number) {
		return fmt.Errorf("v%d serves, want one of %d", info.Number, want.serve)
	}
	if info.Number != 0 {
		lease, err := r.l.Acquire("score", math.MaxUint64)
		if err != nil {
			return err
		}
		defer lease.Release()
		if err := lease.With(func(w View) error { return r.shape.check(w, info.Number) }); err != nil {
			return err
		}
	}
	for _, n := range want.refused {
		if _, ok := r.l.Refused("score")[n]; !ok {
			return fmt.Errorf("the refusal of v%d was forgotten", n)
		}
		if _, err := r.l.AcquireVersion("score", n); !errors.Is(err, ErrNotServing) {
			return fmt.Errorf("v%d, which was refused: %w", n, err)
		}
	}
	return nil
}

// nothingElse checks that every file in the store is one of a version in use.
func (r *rig) nothingElse() error {
	r.noOrphans()
	var images []*image
	must(r.t, r.l.call(r.t.Context(), func() error {
		if m := (*r.l.models.Load())["score"]; m != nil {
			images = slices.AppendSeq(slices.Clone(m.old), maps.Values(m.images))
		}
		return nil
	}))
	known := map[string]bool{"lock": true, stateFile: true}
	for _, im := range images {
		rel, err := filepath.Rel(r.opts.Store, im.dir)
		must(r.t, err)
		for _, f := range []string{manifestFile, originFile, blobFile, leavesFile, durableFile} {
			known[filepath.Join(rel, f)] = true
		}
	}
	return filepath.WalkDir(r.opts.Store, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(r.opts.Store, path)
		if err == nil && !e.IsDir() && !known[rel] {
			err = fmt.Errorf("%s belongs to nobody", rel)
		}
		return err
	})
}
