package loader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

func TestRestartServesBeforeAnythingElse(t *testing.T) {
	for _, mode := range []Mode{Copy, InPlace} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Mode = mode })
			r.drop(1, 0, atOnce)
			r.await(EventActive, 1)
			r.drop(2, 1, atOnce)
			r.await(EventActive, 2)
			r.drop(3, 2, nil)
			r.await(EventCanary, 3)
			r.close()

			r.open()
			r.serves(2)
			r.await(EventCanary, 3) // goes on where it was
			must(t, r.l.Rollback(t.Context(), "score", 2, "the active one, beside a canary"))
			r.serves(1)
			r.close()

			r.open()
			r.serves(1)
			if ref := r.l.Refused("score")[2]; ref.Reason != "the active one, beside a canary" || ref.Root.IsZero() || ref.At.IsZero() {
				t.Errorf("refused: %+v", ref)
			}
			if err := r.l.Rollback(t.Context(), "score", 1, ""); !errors.Is(err, ErrNoStandby) {
				t.Errorf("rollback without a standby: %v", err)
			}
			r.serves(1)
			r.close()
		})
	}
}

func TestStoreBelongsToOneProcess(t *testing.T) {
	r := newRig(t, nil)
	if _, err := Open(t.Context(), r.opts); err == nil || !strings.Contains(err.Error(), "used by another process") {
		t.Errorf("a second loader: %v", err)
	}
	r.close()
	r.open()
	r.close()
}

// A version that a power cut damaged is not served; the one before is.
func TestDamagedStore(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(dir string) error
	}{
		{"payload", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, blobFile), make([]byte, 300_000), 0o644)
		}},
		{"a bit of it", func(dir string) error { return flipByte(filepath.Join(dir, blobFile), -1) }},
		{"cut", func(dir string) error { return os.Truncate(filepath.Join(dir, blobFile), 5000) }},
		{"manifest", func(dir string) error { return os.Truncate(filepath.Join(dir, manifestFile), 10) }},
		{"origin", func(dir string) error { return os.Remove(filepath.Join(dir, originFile)) }},
		{"all", os.RemoveAll},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.drop(1, 0, atOnce)
			r.await(EventActive, 1)
			r.drop(2, 1, atOnce)
			r.await(EventActive, 2)
			r.quiesce()
			r.close()
			dir := filepath.Join(r.opts.Store, "models", "score", "2")
			must(t, os.RemoveAll(filepath.Join(dir, durableFile)))
			must(t, c.harm(dir))
			r.open()
			r.serves(1)
			r.await(EventLost, 2)
			if left := folders(t, r.opts.Store); left != "models/score/1" {
				t.Errorf("in the store: %s", left)
			}
			r.report("v2") // it is still in the watched directory
			r.await(EventActive, 2)
			r.serves(2)
			r.close()
		})
	}
}

func TestLeavesAreMadeAgain(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.quiesce()
	r.close()
	dir := filepath.Join(r.opts.Store, "models", "score", "1")
	must(t, os.RemoveAll(filepath.Join(dir, durableFile)))
	must(t, os.Truncate(filepath.Join(dir, leavesFile), 40))
	r.open()
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	r.serves(2)
	r.close()
}

func TestUnreadableState(t *testing.T) {
	r := newRig(t, nil)
	r.close()
	name := filepath.Join(r.opts.Store, stateFile)
	for _, text := range []string{"{", `{"format": 99}`} {
		must(t, os.WriteFile(name, []byte(text), 0o644))
		if _, err := Open(t.Context(), r.opts); err == nil || !strings.Contains(err.Error(), stateFile) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A refusal that cannot be written at once is written later.
func TestStateIsSavedLater(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	r.quiesce()
	must(t, r.l.call(t.Context(), func() error {
		r.l.store.create = func(string) (file, error) { return nil, syscall.ENOSPC }
		return nil
	}))
	if err := r.l.Rollback(t.Context(), "score", 2, "errors"); !errors.Is(err, ErrDiskFull) {
		t.Errorf("Rollback: %v, want ErrDiskFull", err)
	}
	if _, err := r.l.AcquireVersion("score", 2); !errors.Is(err, ErrNotServing) {
		t.Errorf("the rollback did not take effect: %v", err)
	}
	must(t, r.l.call(t.Context(), func() error {
		r.l.store.create = func(name string) (file, error) { return os.Create(name) }
		return nil
	}))
	for saved := false; !saved; {
		must(t, r.l.call(t.Context(), func() error { saved = !r.l.unsaved; return nil }))
	}
	r.close()
	r.open()
	if _, ok := r.l.Refused("score")[2]; !ok {
		t.Error("the refusal was forgotten")
	}
	r.close()
}

// A file in place that is cut while it serves fails queries, not the process;
// while it is pending, it fails the drop.
func TestTruncatedAfterMapping(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Mode = InPlace })
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)

	cut := make(chan string, 1)
	must(t, r.l.call(t.Context(), func() error {
		r.l.opts.Prepare = func(w View) (any, error) {
			name := <-cut
			if name != "" {
				if err := os.Truncate(name, 8192); err != nil {
					return nil, err
				}
			}
			return nil, r.shape.check(w, w.Info().Number)
		}
		return nil
	}))
	cut <- filepath.Join(r.drops, "v2", "model.safetensors")
	r.drop(2, 0, atOnce)
	if ev := r.await(EventQuarantined, 2); !strings.Contains(ev.Reason, ErrFault.Error()) {
		t.Errorf("%+v", ev)
	}
	r.serves(1)

	cut <- ""
	r.drop(3, 1, atOnce)
	r.await2(EventActive, 3)
	must(t, os.Truncate(filepath.Join(r.drops, "v3", "v3.qd"), 8192))
	lease, err := r.l.Acquire("score", 0)
	must(t, err)
	err = lease.With(func(w View) error { return r.shape.check(w, 3) })
	if !errors.Is(err, ErrFault) {
		t.Errorf("reading a file that was cut: %v, want ErrFault", err)
	}
	lease.Release()
	if v := r.l.Versions("score"); v[len(v)-1].Faults != 1 {
		t.Errorf("faults: %+v", v)
	}
	must(t, r.l.Rollback(t.Context(), "score", 3, "faults"))
	r.serves(1)
}

func TestFullFileWhenTheBaseIsMissing(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	root := filepath.Join(r.drops, "both")
	must(t, os.Mkdir(root, 0o755))
	must(t, packBoth(root, r.shape, 7, 6))
	r.report("both")
	ev := r.await(EventActive, 7)
	r.serves(7)
	if int(ev.Bytes) != len(r.shape.file(7)) {
		t.Errorf("%d bytes were read", ev.Bytes)
	}
	// With its base there, the delta of a such a drop is used.
	must(t, os.Mkdir(filepath.Join(r.drops, "more"), 0o755))
	must(t, packBoth(filepath.Join(r.drops, "more"), r.shape, 8, 7))
	r.report("more")
	if ev := r.await(EventActive, 8); int(ev.Bytes) >= len(r.shape.file(8)) {
		t.Errorf("%d bytes were read", ev.Bytes)
	}
	r.serves(8)
}

// Data that is not aligned to pages, and that moved, is served all the same.
func TestRaggedFiles(t *testing.T) {
	r := newRig(t, nil)
	r.shape = ragged
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	for n := uint64(2); n < 12; n++ {
		if n == 6 {
			r.shape.dataAt += 24 // a longer header
			dir := filepath.Join(r.drops, "moved")
			must(t, os.Mkdir(dir, 0o755))
			old := r.shape
			old.dataAt -= 24
			must(t, packFiles(dir, 6, 5, old.file(5), r.shape.file(6)))
			r.report("moved")
		} else {
			r.drop(n, n-1, atOnce)
		}
		r.await(EventActive, n)
		r.serves(n)
	}
}

func TestCloseRevokes(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, nil)
	r.await(EventActive, 1)
	lease, err := r.l.Acquire("score", 1)
	must(t, err)
	r.close()
	r.close()
	select {
	case <-lease.Done():
	case <-time.After(time.Minute):
		t.Error("the lease was not revoked")
	}
	if err := lease.With(func(View) error { return nil }); !errors.Is(err, ErrRevoked) {
		t.Errorf("With: %v", err)
	}
	lease.Release()
	if _, err := r.l.Acquire("score", 1); !errors.Is(err, ErrNoVersion) {
		t.Errorf("Acquire: %v", err)
	}
	if _, err := r.l.Acquire("other", 1); !errors.Is(err, ErrNoModel) {
		t.Errorf("Acquire of an unknown model: %v", err)
	}
	if err := r.l.Activate(t.Context(), "score", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Activate: %v", err)
	}
	var none Lease
	none.Release()
	if err := none.With(nil); !errors.Is(err, ErrNoVersion) || none.Info() != nil || none.Done() != nil || none.Prepared() != nil {
		t.Errorf("the zero lease: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Store: t.TempDir(), Mode: "magic"}, {Store: t.TempDir(), Reclaim: -1}, {Store: "/dev/null/store"}} {
		if l, err := Open(t.Context(), o); err == nil {
			l.Close()
			t.Errorf("%+v was taken", o)
		}
	}
}

// A state.json that holds what no program has written is an error, not a crash.
func TestStateWithANullModelIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), fmt.Appendf(nil, `{"format":%d,"models":{"m":null}}`, stateFormat), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Options{Store: dir})
	if err == nil {
		l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `model "m" is null; move it away`) {
		t.Errorf("error %v", err)
	}
}

func packBoth(dir string, s shape, version, base uint64) error {
	return packPair(dir, version, base, s.file(base), s.file(version), true)
}

func packFiles(dir string, version, base uint64, from, to []byte) error {
	return packPair(dir, version, base, from, to, false)
}

func packPair(dir string, version, base uint64, from, to []byte, full bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, Canary: &delta.Canary{}}}
	_, _, err = p.Delta(context.Background(), root, base, bytes.NewReader(from), bytes.NewReader(to), full)
	return err
}

// A version that nobody was served by yet must be signed by a key of this run.
func TestUndecidedVersionIsCheckedWithTheKeysOfNow(t *testing.T) {
	key, err := delta.GenerateKey()
	must(t, err)
	r := newRig(t, nil)
	sign := func(p *delta.Pack) { p.Key = key }
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, sign)
	r.await(EventCanary, 2)
	r.close()
	r.opts.Keys = []*delta.PublicKey{key.Public()}
	r.open()
	r.await(EventCanary, 2)
	r.close()
	other, err := delta.GenerateKey()
	must(t, err)
	r.opts.Keys = []*delta.PublicKey{other.Public()}
	r.open()
	if ev := r.await(EventLost, 2); !strings.Contains(ev.Reason, "signature refused: unknown key") {
		t.Errorf("lost for %q", ev.Reason)
	}
	r.serves(1)
	if left := folders(t, r.opts.Store); left != "models/score/1" {
		t.Errorf("in the store: %s", left)
	}
	r.close()
}

// As long as state.json names a version, it is there, whatever came after it: a
// start would look for it.
func TestWhatTheSavedStateNamesStays(t *testing.T) {
	r := newRig(t, nil)
	for n := uint64(1); n <= 2; n++ {
		r.drop(n, 0, atOnce)
		r.await2(EventDurable, n)
	}
	var full atomic.Bool
	full.Store(true)
	must(t, r.l.call(t.Context(), func() error {
		create := r.l.store.create
		r.l.store.create = func(name string) (file, error) {
			if full.Load() && strings.HasPrefix(filepath.Base(name), stateFile) {
				return nil, syscall.ENOSPC
			}
			return create(name)
		}
		return nil
	}))
	for n := uint64(3); n <= 5; n++ {
		r.drop(n, 0, atOnce)
		r.await2(EventActive, n)
	}
	r.await2(EventUnloadSuccess, 3)
	r.quiesce()
	if got, want := folders(t, r.opts.Store), "models/score/1 models/score/2 models/score/4 models/score/5"; got != want {
		t.Errorf("in the store: %s; want %s", got, want)
	}
	full.Store(false)
	for saved := false; !saved; {
		must(t, r.l.call(t.Context(), func() error { saved = !r.l.unsaved; return nil }))
	}
	r.quiesce()
	r.noOrphans()
	if got, want := folders(t, r.opts.Store), "models/score/4 models/score/5"; got != want {
		t.Errorf("in the store: %s; want %s", got, want)
	}
	r.close()
}
