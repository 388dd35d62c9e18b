package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/quadnine/quadnine/loader/delta"
)

// deaf watches dir as on a mount of which the kernel tells nothing at all.
func deaf(t *testing.T, dir string, rescan time.Duration) *Watcher {
	t.Helper()
	n, err := fsnotify.NewWatcher()
	must(t, err)
	w := &Watcher{dir: dir, rescan: rescan, notify: n, add: func(string) error { return nil }, remote: func(string) bool { return true }}
	w.start()
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

// Without any event drops are found, replaced ones too, and missed when they go.
func TestMountWithoutEvents(t *testing.T) {
	dir := t.TempDir()
	w := deaf(t, dir, 0)
	if got := w.every(); got != rescanRemote {
		t.Errorf("a mount whose writers are elsewhere is read every %v, want %v", got, rescanRemote)
	}
	must(t, packInto(filepath.Join(dir, "a"), tiny, 1, 0, nil))
	expect(t, w, "a v1")

	quick := deaf(t, dir, 5*time.Millisecond)
	expect(t, quick, "a v1")
	must(t, packInto(filepath.Join(dir, "score", "b"), tiny, 2, 0, nil))
	expect(t, quick, "score/b v2")
	again := t.TempDir()
	must(t, packInto(again, tiny, 3, 0, nil))
	must(t, os.Rename(filepath.Join(again, delta.ManifestName), filepath.Join(dir, "a", delta.ManifestName)))
	expect(t, quick, "a v3")
	must(t, os.RemoveAll(filepath.Join(dir, "a")))
	expect(t, quick, "a gone")
}

// The same on the way to serving.
func TestMountWithoutEventsServes(t *testing.T) {
	drops := t.TempDir()
	w := deaf(t, drops, 5*time.Millisecond)
	r := newRig(t, func(o *Options) { o.Source = w })
	r.shape = tiny
	for n := uint64(1); n < 5; n++ {
		must(t, packInto(filepath.Join(drops, fmt.Sprint("v", n)), r.shape, n, n-1, atOnce))
		r.await(EventActive, n)
		r.serves(n)
	}
	r.close()
}

// A manifest's time says only that it is another one than before: years ahead,
// years ago, and the same time and size in another file.
func TestFileTimesMeanNothing(t *testing.T) {
	drops := t.TempDir()
	w := watch(t, drops, 5*time.Millisecond)
	r := newRig(t, func(o *Options) { o.Source = w })
	r.shape = tiny
	ahead, ago := time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)
	for n, at := range []time.Time{1: ahead, 2: ago, 3: ahead, 4: ago, 5: ago} {
		if n == 0 {
			continue
		}
		n := uint64(n)
		from, to := filepath.Join(t.TempDir(), "drop"), filepath.Join(drops, "score")
		must(t, packInto(from, r.shape, n, 0, atOnce))
		must(t, os.Chtimes(filepath.Join(from, delta.ManifestName), at, at))
		must(t, os.MkdirAll(to, 0o755))
		for _, f := range []string{"model.safetensors", delta.ManifestName} { // the commit comes last
			must(t, os.Rename(filepath.Join(from, f), filepath.Join(to, f)))
		}
		r.await2(EventActive, n) // in between the old manifest may not fit the new file
		r.serves(n)
	}
	r.close()
}

// Whatever the loader waits for is counted on the monotonic clock: somebody who
// sets the wall clock does not promote, revoke or retry anything early or late.
func TestDeadlinesAreMonotonic(t *testing.T) {
	r := newRig(t, nil)
	r.shape = tiny
	defer func() { r.close() }()
	check := func(when string) {
		t.Helper()
		must(t, r.l.call(t.Context(), func() error {
			monotonic := func(what string, at time.Time) {
				if !at.IsZero() && !strings.Contains(at.String(), " m=") {
					t.Errorf("%s: %s is %v, of the wall clock", when, what, at)
				}
			}
			for _, m := range *r.l.models.Load() {
				for _, v := range m.mapped {
					monotonic(fmt.Sprint(&v.info, " entered"), v.entered)
					monotonic(fmt.Sprint(&v.info, " judged"), v.judged)
				}
			}
			for name, d := range r.l.drops {
				monotonic(name+" at", d.at)
				monotonic(name+" retry", d.retry)
			}
			monotonic("the next save", r.l.nextSave)
			return nil
		}))
	}
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	r.src <- Candidate{Drop: "broken", Open: func() (*os.Root, error) { return nil, os.ErrNotExist }} // tried again later
	r.await2(EventQuarantined, 0)
	check("in the first run")
	r.quiesce()
	r.close()
	r.open()
	check("after a restart")
}

// What a run before noted is of the wall clock: after that went back by years,
// versions come back, and times are not negative.
func TestClockThatWentBack(t *testing.T) {
	r := newRig(t, nil)
	r.shape = tiny
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 9, Root: delta.RootOfBytes(r.shape.file(9)), Reason: "bad", At: time.Now().AddDate(80, 0, 0)}))
	r.quiesce()
	store := r.l.store
	r.close()
	for _, n := range []uint64{1, 2} {
		name := filepath.Join(store.version("score", n), originFile)
		b, err := os.ReadFile(name)
		must(t, err)
		ahead := strings.ReplaceAll(string(b), fmt.Sprintf(`"%d-`, time.Now().Year()), `"2199-`)
		if ahead == string(b) {
			t.Fatalf("%s has no time: %s", name, b)
		}
		must(t, os.WriteFile(name, []byte(ahead), 0o600))
	}
	r.open()
	r.serves(1)
	if ev := r.await(EventCanary, 2); ev.Took < 0 {
		t.Errorf("took %v", ev.Took)
	}
	r.judge.say(2, Promote)
	if ev := r.await(EventActive, 2); ev.Took < 0 {
		t.Errorf("took %v", ev.Took)
	}
	r.serves(2)
	r.drop(9, 2, atOnce)
	if ev := r.await(EventQuarantined, 9); !strings.Contains(ev.Reason, ErrRefused.Error()) {
		t.Errorf("%+v", ev)
	}
	r.close()
}

// group is a control group that tests resize.
type group struct{ limit, fixed atomic.Int64 }

func (g *group) read() (limit, fixed int64, limited bool) {
	return g.limit.Load(), g.fixed.Load(), g.limit.Load() > 0
}

// A group that is smaller than base and delta is told with the figures, at start
// and before each mapping, and the version serves; one that has no room for what is
// copied refuses the drop, and takes it once it was made larger.
func TestGroupSmallerThanBaseAndDelta(t *testing.T) {
	g := new(group)
	r := newRig(t, func(o *Options) { o.group = g.read })
	base := int64(len(r.shape.file(1)))
	g.fixed.Store(6 << 20)
	g.limit.Store(6<<20 + base + base/8)
	r.drop(1, 0, atOnce)
	for ev := range r.l.Events() { // base alone fits
		if ev.Kind == EventShort {
			t.Errorf("%+v", ev)
		}
		if ev.Kind == EventActive {
			break
		}
	}
	r.drop(2, 1, atOnce)
	short := r.await(EventShort, 2)
	if want := "of the 7.5 MB that the control group allows 6.3 MB are taken"; !strings.Contains(short.Reason, want) || short.Bytes <= base {
		t.Errorf("%+v, want %q and the bytes of both files", short, want)
	}
	if ev := r.await(EventActive, 2); ev.Copied == 0 {
		t.Errorf("%+v: nothing was copied, so the rest shows nothing", ev)
	}
	r.serves(2)
	r.quiesce()

	g.fixed.Store(roomIn(g.limit.Load()) - 4096) // the rest is the process's own
	r.drop(3, 2, atOnce)
	ev := r.await(EventQuarantined, 3)
	if !strings.Contains(ev.Reason, errGroupMemory.Error()) || !strings.Contains(ev.Reason, "raise its limit") {
		t.Errorf("%+v", ev)
	}
	if q := r.l.Quarantined(); len(q) != 1 || q[0].Retry.IsZero() {
		t.Errorf("%+v, want it to be tried again", q)
	}
	r.serves(2)
	g.fixed.Store(0)
	r.report("v3")
	r.await(EventActive, 3)
	r.serves(3)
	r.quiesce()
	r.close()

	r.open()
	start := r.await(EventMemory, 0)
	if start.Bytes <= base || !strings.Contains(start.Reason, "the versions of the last run take") {
		t.Errorf("%+v", start)
	}
	r.serves(3)
	r.close()
}

// A holder that never lets go loses its mapping: it gets errors, the process goes
// on, the event says how many leases were taken away, and the mappings are gone.
func TestHolderThatNeverLetsGo(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Reclaim = time.Millisecond })
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	held, err := r.l.AcquireVersion("score", 1)
	must(t, err)
	r.drop(2, 0, atOnce)
	r.await(EventActive, 2)
	r.drop(3, 0, atOnce)
	r.await(EventActive, 3) // now 1 is neither active nor standby
	ev := r.await(EventUnloadTimeout, 1)
	if ev.Leases != 1 || ev.Bytes != int64(len(r.shape.file(1))) {
		t.Errorf("%+v, want one lease and the version's bytes", ev)
	}
	<-held.Done()
	for range 100 {
		err := held.With(func(w View) error { return r.shape.check(w, 1) })
		if !errors.Is(err, ErrRevoked) {
			t.Fatalf("the holder gets %v, want ErrRevoked", err)
		}
	}
	for _, v := range r.l.Versions("score") {
		if v.Number == 1 {
			t.Errorf("v1 is still %v", v.State)
		}
	}
	r.serves(3)
	r.close() // with the lease out
	held.Release()
}
