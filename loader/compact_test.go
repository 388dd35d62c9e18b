package loader

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// A chain past a bound becomes one delta, or a full file when one delta would be
// past it too. What runs goes on, the next version is made on the new files, and
// so is the next start.
func TestCompaction(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits chains
		why    string
		form   string
	}{
		{"too many deltas", chains{share: 100, extents: 1 << 20, deltas: 2}, "3 deltas, at most 2 are kept", "one delta on score@1"},
		{"too many bytes", chains{share: 0.4, extents: 1 << 20, deltas: 100}, "at most 40 % of the base's", "one delta on score@1"},
		{"too many extents", chains{share: 100, extents: 10, deltas: 100}, "extents, at most 10 are kept", "one delta on score@1"},
		{"one delta would be too large", chains{share: 0.1, extents: 1 << 20, deltas: 100}, "at most 10 % of the base's", "a full file"},
		{"one delta would have too many extents", chains{share: 100, extents: 1, deltas: 100}, "extents, at most 1 are kept", "a full file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.chains, o.prompt = c.limits, true })
			defer func() { r.close() }()
			r.drop(1, 0, atOnce)
			r.await(EventActive, 1)
			var ev Event
			last := uint64(1)
			for ev.Kind != EventCompacted {
				last++
				r.drop(last, last-1, atOnce)
				r.await(EventDurable, last)
				for r.quiesce(); len(r.l.Events()) > 0; {
					if e := <-r.l.Events(); e.Kind == EventCompacted {
						ev = e
					}
				}
				if last > 9 {
					t.Fatal("nothing was compacted")
				}
			}
			if !strings.Contains(ev.Reason, c.why) || !strings.Contains(ev.Reason, c.form) || ev.Version != last || ev.Bytes == 0 {
				t.Errorf("compacted: %+v; want %q and %q", ev, c.why, c.form)
			}
			r.serves(last)
			if s := r.l.Versions("score"); !s[len(s)-1].Durable {
				t.Errorf("not durable: %+v", s)
			}
			r.close() // on the new files
			r.open()
			r.serves(last)
			r.drop(last+1, last, atOnce)
			r.await2(EventActive, last+1)
			r.serves(last + 1)
			r.quiesce()
			r.noOrphans()
			must(t, r.nothingElse())
			lease, err := r.l.AcquireVersion("score", last)
			must(t, err)
			must(t, lease.With(func(w View) error { return r.shape.check(w, last) }))
			lease.Release()
			must(t, r.l.Rollback(t.Context(), "score", last+1, "to the compacted one"))
			r.serves(last)
		})
	}
}

// A version that was being made of the old chain while it was compacted is served,
// and found again after a restart.
func TestCompactionUnderACanary(t *testing.T) {
	r := newRig(t, func(o *Options) { o.chains, o.prompt = chains{share: 100, extents: 1 << 20, deltas: 1}, true })
	defer func() { r.close() }()
	hold := make(chan struct{})
	r.drop(1, 0, atOnce)
	r.await(EventDurable, 1)
	r.drop(2, 1, atOnce)
	r.await(EventDurable, 2)
	must(t, r.l.call(t.Context(), func() error {
		r.l.submit(lane{compactLane, ""}, func() error { <-hold; return nil }, func(error) {}) // compaction waits
		return nil
	}))
	r.drop(3, 2, atOnce)
	r.await(EventDurable, 3)
	r.drop(4, 3, nil) // made of the old files
	r.await(EventCanary, 4)
	close(hold)
	r.await(EventCompacted, 3)
	r.quiesce()
	r.noOrphans()
	r.judge.say(4, Promote)
	r.await2(EventActive, 4)
	r.await2(EventDurable, 4)
	r.serves(4)
	r.quiesce()
	r.close()
	r.open()
	r.serves(4)
	r.quiesce()
	r.noOrphans()
	must(t, r.nothingElse())
	r.drop(5, 4, atOnce)
	r.await2(EventActive, 5)
	r.serves(5)
}

// A new base with the very bytes of the active version needs no trial; one with
// others does.
func TestRebaseNeedsNoCanary(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	dir := filepath.Join(r.drops, "again")
	must(t, os.Mkdir(dir, 0o755))
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer closeRoot(root)
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: 2, SchemaVersion: 1, Canary: &delta.Canary{Weight: 5}}}
	_, err = p.Full(t.Context(), root, strings.NewReader(string(r.shape.file(1))))
	must(t, err)
	r.report("again")
	if ev := r.await(EventActive, 2); ev.From != 1 || !strings.Contains(ev.Reason, "new base") {
		t.Errorf("%+v", ev)
	}
	r.drop(3, 0, nil)
	r.await(EventCanary, 3)
}

// A drop that would take the store over its quota is refused with figures, and
// taken as soon as something was removed.
func TestQuota(t *testing.T) {
	whole := int64(len(aligned.file(1)))
	room := whole*2 + whole/2
	for _, c := range []struct {
		name   string
		change func(*Options)
	}{
		{"of the store", func(o *Options) { o.Quota = room }},
		{"of the model", func(o *Options) { o.Quota, o.Quotas = 100*room, map[string]int64{"score": room, "other": 1} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			defer r.close()
			r.drop(1, 0, atOnce)
			r.await(EventActive, 1)
			r.drop(2, 0, atOnce)
			r.await(EventActive, 2)
			lease, err := r.l.AcquireVersion("score", 1) // keeps v1 in the store
			must(t, err)
			r.quiesce()
			r.drop(3, 0, atOnce)
			ev := r.await(EventQuarantined, 3)
			own, all := r.l.Disk("score")
			if !strings.Contains(ev.Reason, ErrQuota.Error()) || !strings.Contains(ev.Reason, "make room") || own.Used != all.Used || own.Used < 2*whole || own.Used > room {
				t.Errorf("%q with %+v of %+v in use", ev.Reason, own, all)
			}
			r.quiesce()
			r.noOrphans()
			r.serves(2)
			r.drop(4, 2, atOnce) // a delta has room; v1 goes, and v3 is older now
			r.await2(EventActive, 4)
			r.serves(4)
			lease.Release()
			r.await2(EventUnloadSuccess, 1)
			r.quiesce()
			r.drop(5, 0, atOnce)
			r.await2(EventActive, 5)
			r.serves(5)
			r.quiesce()
			used := int64(0)
			for _, n := range []uint64{1, 2, 4, 5} {
				used += size(r.l.store.version("score", n))
			}
			if own, all := r.l.Disk("score"); own.Used != used || all.Used != used {
				t.Errorf("%d and %d bytes in use, %d are there", own.Used, all.Used, used)
			}
		})
	}
}

// What is made of a patch counts, not the patch alone, and is on disk for good with
// it.
func TestQuotaOfPatches(t *testing.T) {
	whole := int64(len(aligned.file(1)))
	p := newPatches(t, "apply", func(o *Options) { o.Quota = whole + whole/8 })
	defer func() { p.close() }()
	p.drop(1, 0, atOnce)
	p.await(EventActive, 1)
	p.dropPatch(t, 2, 1, nil)
	if ev := p.await(EventQuarantined, 2); !strings.Contains(ev.Reason, ErrQuota.Error()) || len(p.applied()) != 1 {
		t.Errorf("%q after %d children", ev.Reason, len(p.applied()))
	}
	p.quiesce()
	p.noOrphans()
	p.close()
	p.opts.Quota = 3 * whole
	synced := make(map[string]bool)
	v := osVolume()
	sync := v.syncPath
	v.syncPath = func(name string) error {
		synced[filepath.Base(name)] = true // of the settling lane, and of the loader's start before it
		return sync(name)
	}
	p.opts.volume = &v
	p.open()
	p.report("v2")
	p.await(EventDurable, 2)
	p.serves(2)
	if !synced[patchFile] || !synced[blobFile] {
		t.Errorf("durable with %v on disk", synced)
	}
}

// What the quota has no room for is tried again when a version goes, not by the
// clock.
func TestQuotaIsTriedAgain(t *testing.T) {
	whole := int64(len(aligned.file(1)))
	r := newRig(t, func(o *Options) { o.Quota = whole*2 + whole/2 })
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 0, nil)
	r.await(EventCanary, 2)
	r.quiesce()
	must(t, r.l.Rollback(t.Context(), "score", 2, "wrong"))
	r.await2(EventUnloadSuccess, 2)
	r.quiesce()
	r.drop(3, 0, atOnce)
	r.await2(EventActive, 3)
	lease, err := r.l.AcquireVersion("score", 1)
	must(t, err)
	r.pack("v4", 4, 0, atOnce)
	r.report("v4")
	r.await(EventQuarantined, 4)
	r.drop(5, 3, atOnce)
	r.await2(EventActive, 5)
	lease.Release()
	r.await2(EventUnloadSuccess, 1)
	r.await2(EventQuarantined, 4) // tried again: older now
}

func TestGC(t *testing.T) {
	r := newRig(t, func(o *Options) { o.chains = chains{share: 100, extents: 1 << 20, deltas: 1} })
	for n := uint64(1); n <= 4; n++ {
		r.drop(n, n-1, atOnce)
		r.await2(EventDurable, n)
		r.quiesce()
	}
	r.drop(5, 4, nil)
	r.await2(EventCanary, 5)
	r.quiesce()
	if found, err := r.l.GC(t.Context(), true); err != nil || len(found) != 0 {
		t.Errorf("in a store in order: %+v, %v", found, err)
	}
	stray := filepath.Join(r.opts.Store, "models", "score", "99")
	must(t, os.CopyFS(stray, os.DirFS(filepath.Join(r.opts.Store, "models", "score", "1"))))
	found, err := r.l.GC(t.Context(), true)
	if err != nil || len(found) != 1 || found[0].Version != 99 || found[0].Bytes != size(stray) {
		t.Errorf("beside a stray version: %+v, %v", found, err)
	}
	if _, err := os.Stat(stray); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if found, err = r.l.GC(t.Context(), false); err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	r.noOrphans()
	if _, _, err := GCStore(r.opts.Store, false); err == nil {
		t.Error("a store in use was collected")
	}
	r.close()

	before := folders(t, r.opts.Store)
	must(t, os.CopyFS(filepath.Join(r.opts.Store, "models", "score", "77"), os.DirFS(filepath.Join(r.opts.Store, "models", "score", "1"))))
	must(t, os.MkdirAll(filepath.Join(r.opts.Store, "tmp", "drop-7"), 0o755))
	must(t, os.WriteFile(filepath.Join(r.opts.Store, "tmp", "drop-7", blobFile), make([]byte, 1000), 0o644))
	dry, _, err := GCStore(r.opts.Store, true)
	must(t, err)
	found, _, err = GCStore(r.opts.Store, false)
	must(t, err)
	if len(found) != len(dry) || !slices.ContainsFunc(found, func(g Garbage) bool { return g.Path == "tmp/drop-7" && g.Bytes == 1000 }) {
		t.Errorf("dry %+v, then %+v", dry, found)
	}
	// v2 is what the standby ran on before its chain was compacted.
	if after := folders(t, r.opts.Store); after != "models/score/1 models/score/3 models/score/4 models/score/5" {
		t.Errorf("%s, before %s", after, before)
	}
	r.open()
	r.serves(4)
	r.await2(EventCanary, 5) // undecided versions were kept
	r.close()
	must(t, os.Truncate(filepath.Join(r.l.store.locate("score", 4), manifestFile), 5))
	if found, _, err := GCStore(r.opts.Store, false); err == nil || len(found) != 0 {
		t.Errorf("beside an unreadable version in use: %+v, %v", found, err)
	}
}

// Models do not wait for one another: while a drop of one hangs, those of the
// others pass, and a bad or greedy model harms itself alone.
func TestModelsDoNotHoldUpOneAnother(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Quotas = map[string]int64{"greedy": 1000} })
	defer r.close()
	named := func(model string) func(*delta.Pack) {
		return func(p *delta.Pack) { atOnce(p); p.Manifest.Model = model }
	}
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.quiesce()
	hung, let := make(chan struct{}), make(chan struct{})
	must(t, r.l.call(t.Context(), func() error {
		create := r.l.store.create
		r.l.store.create = func(name string) (file, error) {
			if filepath.Base(name) == blobFile {
				select {
				case <-hung: // only the first one hangs
				default:
					close(hung)
					<-let
				}
			}
			return create(name)
		}
		return nil
	}))
	r.pack("slow", 2, 0, atOnce)
	r.report("slow")
	<-hung
	for n := uint64(1); n <= 12; n++ { // an endless chain, meanwhile
		r.pack("chain"+string(rune('a'+n)), n, n-1, named("chain"))
		r.report("chain" + string(rune('a'+n)))
		r.await2(EventActive, n)
	}
	r.pack("greedy", 1, 0, named("greedy"))
	r.report("greedy")
	r.await(EventQuarantined, 1)
	r.pack("bad", 1, 0, named("bad"))
	flip(t, filepath.Join(r.drops, "bad", "model.safetensors"), -1)
	r.report("bad")
	r.await(EventQuarantined, 1)
	for n := uint64(1); n <= 5; n++ {
		name := "other" + string(rune('a'+n))
		r.pack(name, n, n-1, named("other"))
		r.report(name)
		r.await2(EventActive, n)
	}
	r.serves(1) // the slow one has not come
	close(let)
	r.await2(EventActive, 2)
	r.serves(2)
	for model, want := range map[string]uint64{"chain": 12, "other": 5} {
		lease, err := r.l.Acquire(model, math.MaxUint64)
		must(t, err)
		must(t, lease.With(func(w View) error { return r.shape.check(w, want) }))
		lease.Release()
	}
}

// The mapping budget is one of all models together.
func TestMappingBudgetOfSeveralModels(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	used, _ := r.l.Mappings()
	must(t, r.l.call(t.Context(), func() error { r.l.opts.Mappings = used + 20; return nil }))
	took := 0
	for i := range 10 {
		name := "m" + string(rune('a'+i))
		r.pack(name, 1, 0, func(p *delta.Pack) { atOnce(p); p.Manifest.Model = name })
		r.report(name)
		for ev := range r.l.Events() {
			if ev.Kind == EventActive {
				took++
			}
			if ev.Kind == EventQuarantined && (ev.Model != name || !strings.Contains(ev.Reason, ErrTooManyMaps.Error())) {
				t.Errorf("%+v", ev)
			}
			if ev.Kind == EventActive || ev.Kind == EventQuarantined {
				break
			}
		}
	}
	now, limit := r.l.Mappings()
	if took < 2 || took == 10 || len(r.l.Quarantined()) != 10-took || now > limit || now <= used {
		t.Errorf("%d of 10 models were taken, %d of %d mappings are in use", took, now, limit)
	}
}

// A version that is not on disk for good yet may be lost, and says so.
func TestDurableIsTold(t *testing.T) {
	r := newRig(t, nil)
	defer func() { r.close() }()
	hold := make(chan struct{})
	must(t, r.l.call(t.Context(), func() error {
		sync := r.l.store.syncPath
		r.l.store.syncPath = func(name string) error {
			if filepath.Base(name) == blobFile {
				<-hold
			}
			return sync(name)
		}
		return nil
	}))
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	if v := r.l.Versions("score"); v[0].Durable {
		t.Errorf("durable already: %+v", v)
	}
	close(hold)
	r.await(EventDurable, 1)
	if v := r.l.Versions("score"); !v[0].Durable {
		t.Errorf("not durable: %+v", v)
	}
	r.close()
	must(t, os.Remove(filepath.Join(r.opts.Store, "models", "score", "1", durableFile)))
	r.open() // as after a power cut: hashed, and made durable again
	r.await(EventDurable, 1)
	r.serves(1)
}
