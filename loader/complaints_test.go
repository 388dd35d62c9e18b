package loader

// What users of other model servers complain of, each as a test of ours. Decision
// record 31 has the whole list.

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
)

// TensorFlow Serving #1866, Triton #8117 and #8587: answers become slow while
// another version loads. Here each step of a load stands still in turn, and whoever
// asks meanwhile does not wait for it.
func TestLoadHoldsNobodyUp(t *testing.T) {
	var r *rig
	at, on := make(chan string), make(chan struct{})
	stand := func(step string, n uint64) {
		if n == 2 {
			at <- step
			<-on
		}
	}
	r = newRig(t, func(o *Options) {
		o.Prepare = func(w View) (any, error) { stand("prepare", w.Info().Number); return nil, nil }
		o.Warm = func(_ context.Context, w View, _ any) (int64, error) { stand("warm", w.Info().Number); return 0, nil }
	})
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.quiesce()
	must(t, r.l.call(t.Context(), func() error {
		create, rename := r.l.store.create, r.l.store.rename
		r.l.store.create = func(name string) (file, error) {
			if filepath.Base(name) == blobFile {
				stand("copy", 2)
			}
			return create(name)
		}
		r.l.store.rename = func(from, to string) error {
			if strings.HasSuffix(to, string(filepath.Separator)+"2") {
				stand("commit", 2)
			}
			return rename(from, to)
		}
		return nil
	}))
	r.drop(2, 1, atOnce)
	for _, want := range []string{"copy", "commit", "prepare", "warm"} {
		select {
		case got := <-at:
			if got != want {
				t.Fatalf("%s comes where %s was expected", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not come; quarantined: %+v", want, r.l.Quarantined())
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					lease, err := r.l.Acquire("score", 7)
					if err != nil {
						t.Error(err)
						return
					}
					if err := lease.With(func(w View) error { return r.shape.check(w, 1) }); err != nil {
						t.Errorf("at %s: %v", want, err)
					}
					lease.Release()
				}
			})
		}
		wg.Wait()
		if n := len(r.l.Versions("score")); n == 0 || len(r.l.Quarantined()) != 0 { // nor does who looks
			t.Errorf("at %s: %d versions", want, n)
		}
		for len(r.l.Events()) > 0 {
			<-r.l.Events()
		}
		on <- struct{}{}
	}
	r.await(EventActive, 2)
	r.serves(2)
	r.close()
}

// Triton #6710: one bad model, and the poll finds nothing any more. Here the
// watched directory has one of each kind of bad drop, and good ones go on.
func TestOneBadModelDoesNotFreezeThePoll(t *testing.T) {
	drops := t.TempDir()
	bad := map[string]func(dir string) error{
		"pipe":      func(dir string) error { return unix.Mkfifo(filepath.Join(dir, delta.ManifestName), 0o600) },
		"directory": func(dir string) error { return os.Mkdir(filepath.Join(dir, delta.ManifestName), 0o700) },
		"loop":      func(dir string) error { return os.Symlink(delta.ManifestName, filepath.Join(dir, delta.ManifestName)) },
		"empty":     func(dir string) error { return os.WriteFile(filepath.Join(dir, delta.ManifestName), nil, 0o600) },
		"huge": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, delta.ManifestName), nil, 0o600), os.Truncate(filepath.Join(dir, delta.ManifestName), 1<<32))
		},
		"device": func(dir string) error { return os.Symlink("/dev/zero", filepath.Join(dir, delta.ManifestName)) },
	}
	w := watch(t, drops, never)
	r := newRig(t, func(o *Options) { o.Source = w })
	r.shape = tiny
	n := uint64(0)
	for name, spoil := range bad {
		must(t, os.Mkdir(filepath.Join(drops, name), 0o700))
		must(t, spoil(filepath.Join(drops, name)))
		n++
		dir := filepath.Join(drops, "good-"+name)
		must(t, packInto(dir, r.shape, n, n-1, atOnce))
		r.await2(EventActive, n)
		r.serves(n)
	}
	r.quiesce()
	q := r.l.Quarantined()
	if len(q) != len(bad) {
		t.Errorf("%d of %d bad drops are quarantined: %+v", len(q), len(bad), q)
	}
	for _, q := range q {
		if bad[q.Drop] == nil || q.Reason == "" {
			t.Errorf("%+v", q)
		}
	}
	r.close()
}

// Triton #356: a drop is taken while it is being copied. Here nothing is before the
// manifest, a manifest that came too early says what is missing, and the drop passes
// once it is committed again.
func TestHalfCopiedDrop(t *testing.T) {
	drops, made := t.TempDir(), t.TempDir()
	must(t, packInto(made, tiny, 1, 0, atOnce))
	whole, err := os.ReadFile(filepath.Join(made, "model.safetensors"))
	must(t, err)
	manifest, err := os.ReadFile(filepath.Join(made, delta.ManifestName))
	must(t, err)
	w := watch(t, drops, 5*time.Millisecond)
	r := newRig(t, func(o *Options) { o.Source = w })
	r.shape = tiny
	dir := filepath.Join(drops, "v1")
	must(t, os.Mkdir(dir, 0o700))
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	must(t, err)
	defer f.Close()
	write := func(b []byte) {
		_, err := f.Write(b)
		must(t, err)
	}
	commit := func() {
		must(t, os.WriteFile(filepath.Join(dir, "part"), manifest, 0o600))
		must(t, os.Rename(filepath.Join(dir, "part"), filepath.Join(dir, delta.ManifestName)))
	}
	write(whole[:len(whole)/3])
	commit()
	if ev := r.await(EventQuarantined, 1); !strings.Contains(ev.Reason, ErrSize.Error()) || !strings.Contains(ev.Reason, "still being written") {
		t.Errorf("%+v", ev)
	}
	if len(r.l.Versions("score")) != 0 {
		t.Error("half a drop is mapped")
	}
	write(whole[len(whole)/3:])
	commit()
	r.await2(EventActive, 1)
	r.serves(1)

	// A writer that goes on after the commit changes his file, not what was copied.
	_, err = f.Seek(8192, io.SeekStart)
	must(t, err)
	write([]byte("late"))
	r.serves(1)
	r.close()
}

// The tests that the decision records name exist.
func TestNamedTestsExist(t *testing.T) {
	page, err := os.ReadFile("../docs/decisions/0031-safety.md")
	must(t, err)
	more, err := os.ReadFile("../docs/decisions/0033-under-load.md")
	must(t, err)
	page = append(page, more...)
	exist := make(map[string]bool)
	must(t, filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // what another test makes and removes
			return nil
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			exist[string(m[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	if len(named) < 100 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !exist[string(m[1])] {
			t.Errorf("there is no %s", m[1])
		}
	}
}
