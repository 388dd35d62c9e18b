package loader

import (
	"strings"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
)

// Every version that is mapped is locked, with all that it is made of, from before
// it answers until it is unmapped, and after a restart.
func TestLockedVersions(t *testing.T) {
	before := mmap.Locked()
	r := newRig(t, func(o *Options) { o.Lock = true })
	check := func(n uint64) {
		t.Helper()
		// The kernel divides a page among its mappings: none may go while it counts.
		r.quiesce()
		must(t, r.l.call(t.Context(), func() error { return nil })) // one more sweep
		lease, err := r.l.Acquire("score", 7)
		must(t, err)
		defer lease.Release()
		blobs := make(map[uint64]bool)
		for im := range lease.v.image.chain {
			fi, err := im.blob.f.Stat()
			must(t, err)
			blobs[inode(fi)] = true
		}
		if got, want := smapsOf(t, blobs)["Locked:"], len(r.shape.file(n))>>10; lease.Info().Number != n || got < want {
			t.Errorf("with v%d, want v%d, %d kB of its files are locked, want at least %d", lease.Info().Number, n, got, want)
		}
	}
	for n := uint64(1); n <= 5; n++ {
		r.drop(n, min(n-1, 1), atOnce)
		r.await(EventActive, n)
		r.serves(n)
		check(n)
	}
	sum := int64(0)
	for _, s := range r.l.Versions("score") {
		if s.Locked < s.Size {
			t.Errorf("%d bytes of v%d are locked, want %d at least", s.Locked, s.Number, s.Size)
		}
		sum += (s.Locked + mmap.PageSize() - 1) / mmap.PageSize() * mmap.PageSize()
	}
	if got := mmap.Locked() - before; got != sum {
		t.Errorf("%d bytes are locked, those of the versions in memory are %d", got, sum)
	}
	r.close()
	if got := mmap.Locked() - before; got != 0 {
		t.Errorf("%d bytes are locked after the end", got)
	}
	r.open()
	r.serves(5)
	check(5)
	r.close()
}

// A version that went away before it was its turn answers nobody: nothing is told of it.
func TestVersionThatWentAwayIsNotLocked(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Lock = true })
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	lease, err := r.l.Acquire("score", 7)
	must(t, err)
	v := lease.v
	lease.Release()
	r.close()
	err = r.l.repopulate(v)
	for len(r.l.Events()) > 0 {
		if ev := <-r.l.Events(); ev.Kind == EventUnlocked {
			t.Errorf("%+v", ev)
		}
	}
	must(t, err)
}

// A version that the control group has no room for, once it is locked, is refused
// with the figures and taken later; one of the last run answers unlocked.
func TestLockedVersionMustFitTheGroup(t *testing.T) {
	g := new(group)
	r := newRig(t, func(o *Options) { o.group, o.Lock = g.read, true })
	base := int64(len(r.shape.file(1)))
	g.limit.Store(10 << 20)
	const copies = 64 << 10 // room for what a delta copies, not for the delta
	g.fixed.Store(roomIn(10<<20) - base - copies)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.quiesce()
	g.fixed.Add(base) // what is locked cannot be taken back

	r.drop(2, 1, atOnce)
	ev := r.await(EventQuarantined, 2)
	for _, want := range []string{"score@2 is to be locked into memory", "of the 10.5 MB that the control group allows 9.4 MB cannot be taken back already, at most 9.4 MB may be", "raise its limit, or run without locking", errGroupMemory.Error()} {
		if !strings.Contains(ev.Reason, want) {
			t.Errorf("%q, want %q", ev.Reason, want)
		}
	}
	if q := r.l.Quarantined(); len(q) != 1 || q[0].Retry.IsZero() {
		t.Errorf("%+v, want it to be tried again", q)
	}
	r.serves(1)
	g.limit.Store(12 << 20)
	r.report("v2")
	r.await(EventActive, 2)
	r.serves(2)
	r.quiesce()
	r.close()

	g.limit.Store(10 << 20)
	r.open()
	r.serves(2)
	if ev := r.await(EventUnlocked, 2); !strings.Contains(ev.Reason, "raise its limit") {
		t.Errorf("%+v", ev)
	}
	r.quiesce()
	for _, s := range r.l.Versions("score") {
		if s.Number == 2 && s.Locked != 0 {
			t.Errorf("%+v", s)
		}
	}
	r.close()
}
