package loader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/patch"
)

// patchChild is the first argument of the test binary as the loader's child.
const patchChild = "patch-child"

// runPatchChild is what it then does.
func runPatchChild(how string) int {
	switch how {
	case "apply":
		if err := patch.Run(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	case "hog":
		var all [][]byte
		for len(all) < 1<<20 { // 1 TB
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		runtime.KeepAlive(all)
	case "wait":
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGUSR1)
		<-never
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return 0
}

// patches is a rig whose drops are patches, and what its children came to.
type patches struct {
	*rig

	mu    sync.Mutex
	calls []Patched
}

func newPatches(t *testing.T, how string, change func(*Options)) *patches {
	t.Helper()
	p := &patches{}
	p.rig = newRig(t, func(o *Options) {
		o.Patch = patch.Child{Command: []string{os.Args[0], patchChild, how}, Memory: patchMemory, Time: time.Minute}
		o.Patched = func(x Patched) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.calls = append(p.calls, x)
		}
		if change != nil {
			change(o)
		}
	})
	return p
}

func (p *patches) applied() []Patched {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// zst makes a patch as zstd --patch-from does: a frame whose dictionary is the base.
func zst(t *testing.T, old, target []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(0, old), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	must(t, err)
	defer func() { _ = e.Close() }()
	return e.EncodeAll(target, nil)
}

// fixture returns a file of package patch's tests: v1 and v2, and the patches
// between them by Python's bsdiff4 and zstd.
func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("patch", "testdata", name))
	must(t, err)
	return b
}

// packPatch writes a drop of a patch, made from version base, of these bytes.
func (p *patches) packPatch(version, base uint64, old, target, patch []byte, full bool, change func(*delta.Pack)) string {
	p.t.Helper()
	name := fmt.Sprint("v", version)
	dir := filepath.Join(p.drops, name)
	must(p.t, os.MkdirAll(dir, 0o755))
	root, err := os.OpenRoot(dir)
	must(p.t, err)
	defer root.Close()
	role := delta.RoleZstdPatch
	if bytes.HasPrefix(patch, []byte("BSDIFF40")) {
		role = delta.RoleBSDiff4
	}
	pack := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, Canary: &delta.Canary{}}}
	if change != nil {
		change(pack)
	}
	files := []delta.PatchFile{{Role: role, Bytes: bytes.NewReader(patch)}}
	_, _, err = pack.Patches(p.t.Context(), root, base, bytes.NewReader(old), bytes.NewReader(target), files, false, full)
	must(p.t, err)
	return name
}

// packFull packs and reports a full file.
func (p *patches) packFull(version uint64, b []byte) {
	p.t.Helper()
	name := fmt.Sprint("v", version)
	must(p.t, os.MkdirAll(filepath.Join(p.drops, name), 0o755))
	root, err := os.OpenRoot(filepath.Join(p.drops, name))
	must(p.t, err)
	defer root.Close()
	pack := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1}}
	_, err = pack.Full(p.t.Context(), root, bytes.NewReader(b))
	must(p.t, err)
	p.report(name)
}

// dropPatch packs and reports one from version base of the rig's shape.
func (p *patches) dropPatch(t *testing.T, version, base uint64, change func(*delta.Pack)) {
	t.Helper()
	old, target := p.shape.file(base), p.shape.file(version)
	p.report(p.packPatch(version, base, old, target, zst(t, old, target), false, change))
}

// TestPatchedVersionIsADelta: a zstd patch becomes a version that costs what a
// delta costs, takes part in chains below and above, and outlives a restart
// without being applied again.
func TestPatchedVersionIsADelta(t *testing.T) {
	p := newPatches(t, "apply", nil)
	p.drop(1, 0, atOnce)
	p.await(EventActive, 1)
	p.dropPatch(t, 2, 1, nil)
	ev := p.await(EventPatched, 2)
	p.await(EventDurable, 2)
	p.serves(2)
	if ev.Took <= 0 || ev.Bytes <= 0 || !strings.Contains(ev.Reason, "zstd-patch makes ") {
		t.Errorf("%+v", ev)
	}
	got := p.applied()
	if len(got) != 1 || got[0].Err != nil || got[0].Delta <= 0 || got[0].Delta >= got[0].Target || got[0].Target != int64(len(p.shape.file(2))) {
		t.Fatalf("%+v", got)
	}
	dir := p.l.store.version("score", 2)
	for name, want := range map[string]int64{blobFile: got[0].Delta, patchFile: got[0].Patch} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() != want {
			t.Errorf("%s: %v, want %d bytes", name, err, want)
		}
	}
	if list, err := os.ReadDir(filepath.Join(dir, "..", "..", "..", "tmp")); err != nil || len(list) > 0 {
		t.Errorf("left in tmp: %v, %v", list, err)
	}
	p.drop(3, 2, atOnce) // a delta on it
	p.await(EventActive, 3)
	p.serves(3)
	p.dropPatch(t, 4, 3, nil) // a patch of a base in three files
	p.await(EventDurable, 4)
	p.serves(4)
	p.close()

	p.opts.Patch = patch.Child{}
	p.open()
	defer p.close()
	p.serves(4)
	if n := len(p.applied()); n != 2 {
		t.Errorf("%d children, want 2", n)
	}
}

// TestPythonsPatch: the same for what Python's bsdiff4 and zstd themselves wrote.
func TestPythonsPatch(t *testing.T) {
	for _, name := range []string{"v2.bsdiff4", "v2.zst"} {
		p := newPatches(t, "apply", nil)
		old, want := fixture(t, "v1.safetensors"), fixture(t, "v2.safetensors")
		p.packFull(1, old)
		p.await(EventActive, 1)
		p.report(p.packPatch(2, 1, old, want, fixture(t, name), false, nil))
		p.await(EventActive, 2)
		lease, err := p.l.Acquire("score", math.MaxUint64)
		must(t, err)
		must(t, lease.With(func(w View) error {
			st, err := delta.ParseSafetensors(bytes.NewReader(want), int64(len(want)))
			if err != nil {
				return err
			}
			for _, x := range st.Tensors {
				if _, b, ok := w.Tensor(x.Name); !ok || !bytes.Equal(b, want[x.Off:x.Off+x.Len]) {
					return fmt.Errorf("%s: tensor %q is not the new version's", name, x.Name)
				}
			}
			return nil
		}))
		lease.Release()
		p.close()
	}
}

// TestSignedPatch: the signature covers a patch, and no byte of one without is
// decompressed.
func TestSignedPatch(t *testing.T) {
	priv, err := delta.GenerateKey()
	must(t, err)
	other, err := delta.GenerateKey()
	must(t, err)
	signed := func(k *delta.PrivateKey, weight float64) func(*delta.Pack) {
		return func(p *delta.Pack) { p.Key, p.Manifest.Canary.Weight = k, weight }
	}
	p := newPatches(t, "apply", func(o *Options) { o.Keys = []*delta.PublicKey{priv.Public()} })
	p.drop(1, 0, signed(priv, 0))
	p.await(EventActive, 1)
	p.dropPatch(t, 2, 1, signed(nil, 0))
	p.await(EventQuarantined, 2)
	p.dropPatch(t, 3, 1, signed(other, 0))
	p.await(EventQuarantined, 3)
	if got := p.applied(); len(got) > 0 {
		t.Errorf("a child ran on a patch without a good signature: %+v", got)
	}
	p.dropPatch(t, 4, 1, signed(priv, 50))
	p.await(EventCanary, 4)
	p.close()
	p.open() // undecided: its signature is looked at again
	defer p.close()
	p.await(EventCanary, 4)
	if got := p.applied(); len(got) != 1 || got[0].Err != nil {
		t.Errorf("%+v", got)
	}
	must(t, p.l.Activate(t.Context(), "score", 4))
	p.serves(4)
}

// TestPatchIsCheckedBefore a child is started: disk, the child's memory, the control
// group's; each with its figures. A full file in the drop is used instead.
func TestPatchIsCheckedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*patcher)
		want   string
		is     error
	}{
		"disk": {
			func(p *patcher) { p.free = func() (int64, error) { return 5e6, nil } },
			"takes 1 MB of the store's disk for a while, and the delta that is kept; 5 MB are left", ErrDiskFull,
		},
		"no child": {func(p *patcher) { p.child.Command = nil }, "no command for it is configured", errNoChild},
		"child's memory": {
			func(p *patcher) { p.child.Memory = 16 << 20 },
			"takes 100 MB of memory (and 2 MB of mapped files, which the kernel can take back), the child may have 16 MB", patch.ErrMemory,
		},
		"group's memory": {
			func(p *patcher) { p.group = func() (int64, int64, bool) { return 200e6, 150e6, true } },
			"takes 100 MB of memory (and 2 MB of mapped files, which the kernel can take back); of the 200 MB that the control group allows 150 MB are taken", errGroupMemory,
		},
		"header": {nil, "is it", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatches(t, "apply", nil)
			defer p.close()
			p.drop(1, 0, atOnce)
			p.await(EventActive, 1)
			old, target := p.shape.file(1), p.shape.file(2)
			z := zst(t, old, target)
			if c.change != nil {
				must(t, p.l.call(t.Context(), func() error { c.change(p.l.patches); return nil }))
			} else {
				z, c.want = append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xff}, z[5:]...), "zstd header"
			}
			p.report(p.packPatch(2, 1, old, target, z, false, nil))
			if ev := p.await(EventQuarantined, 2); !strings.Contains(ev.Reason, c.want) {
				t.Errorf("%s, want %q", ev.Reason, c.want)
			}
			q := p.l.Quarantined()[0]
			if transient(c.is) != !q.Retry.IsZero() {
				t.Errorf("tried again at %v", q.Retry)
			}
			p.serves(1)
			p.report(p.packPatch(3, 1, old, p.shape.file(3), z, true, nil))
			p.await(EventActive, 3)
			p.serves(3)
			if got := p.applied(); len(got) > 0 {
				t.Errorf("a child was started: %+v", got)
			}
		})
	}
}

// TestChildThatDies costs one drop: the loader goes on, and says why. What may pass
// is tried again.
func TestChildThatDies(t *testing.T) {
	for how, c := range map[string]struct {
		limit time.Duration
		is    error
		want  string
		again bool
	}{
		"hog":  {time.Minute, patch.ErrMemory, "over its memory limit of 256 MB", false},
		"die":  {time.Minute, patch.ErrKilled, "killed from outside with SIGKILL", true},
		"wait": {50 * time.Millisecond, patch.ErrTime, "over its time limit of 50ms", false},
	} {
		if how == "hog" && patchMemory == 0 {
			continue // it would end with the machine's memory
		}
		t.Run(how, func(t *testing.T) {
			p := newPatches(t, how, func(o *Options) { o.Patch.Time = c.limit })
			defer p.close()
			p.drop(1, 0, atOnce)
			p.await(EventActive, 1)
			p.dropPatch(t, 2, 1, nil)
			if ev := p.await(EventQuarantined, 2); !strings.Contains(ev.Reason, c.want) {
				t.Errorf("%s, want %q", ev.Reason, c.want)
			}
			if got := p.applied(); len(got) != 1 || !errors.Is(got[0].Err, c.is) {
				t.Errorf("%+v", got)
			}
			if q := p.l.Quarantined()[0]; !q.Retry.IsZero() != c.again {
				t.Errorf("tried again at %v", q.Retry)
			}
			p.serves(1)
			p.drop(3, 1, atOnce) // the next one is not held up
			p.await(EventActive, 3)
			p.serves(3)
		})
	}
}

// TestCloseEndsTheChild: closing does not wait for a patch, and leaves nothing.
func TestCloseEndsTheChild(t *testing.T) {
	p := newPatches(t, "wait", nil)
	p.drop(1, 0, atOnce)
	p.await(EventActive, 1)
	p.dropPatch(t, 2, 1, nil)
	for len(p.l.patches.turn) > 0 { // until the child is being run
		runtime.Gosched()
	}
	p.close()
	if got := p.applied(); len(got) != 1 || !errors.Is(got[0].Err, context.Canceled) {
		t.Errorf("%+v", got)
	}
	if list, err := os.ReadDir(filepath.Join(p.opts.Store, "tmp")); err != nil || len(list) > 0 {
		t.Errorf("left in tmp: %v, %v", list, err)
	}
}

// TestPatchIsWhatIsKeptElsewhere: what is handed to an object storage is the file
// that the manifest names.
func TestPatchIsWhatIsKeptElsewhere(t *testing.T) {
	p := newPatches(t, "apply", func(o *Options) { o.Retain = true })
	defer p.close()
	p.drop(1, 0, atOnce)
	p.await(EventActive, 1)
	p.dropPatch(t, 2, 1, nil)
	p.await(EventDurable, 2)
	must(t, p.l.call(t.Context(), func() error {
		s := stored((*p.l.models.Load())["score"].images[2])
		b, err := os.ReadFile(s.File)
		if err != nil {
			return err
		}
		mf := (*p.l.models.Load())["score"].images[2].manifest
		if f, ok := mf.File(s.Role); !ok || f.BLAKE3 != delta.RootOfBytes(b) || s.Base == nil || s.Base.Number != 1 {
			t.Errorf("%+v, the manifest has %+v", s, mf.Files)
		}
		return nil
	}))
}
