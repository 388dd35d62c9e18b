package loader

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
)

// edit changes a drop's manifest as text.
func edit(tb testing.TB, dir, old, next string) {
	tb.Helper()
	name := filepath.Join(dir, delta.ManifestName)
	b, err := os.ReadFile(name)
	must(tb, err)
	s := strings.Replace(string(b), old, next, 1)
	if s == string(b) {
		tb.Fatalf("%q is not in the manifest:\n%s", old, b)
	}
	must(tb, os.WriteFile(name, []byte(s), 0o644))
}

// remanifest makes the manifest of a full drop true again after its file was
// changed.
func remanifest(tb testing.TB, dir string, version uint64) {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, "model.safetensors"))
	must(tb, err)
	defer f.Close()
	fi, err := f.Stat()
	must(tb, err)
	root, err := delta.RootOf(f, fi.Size())
	must(tb, err)
	m := delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, TargetRoot: root, Files: []delta.File{{
		Path: "model.safetensors", Role: delta.RoleFull, Size: fi.Size(), BLAKE3: root,
	}}}
	b, err := m.Marshal()
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, delta.ManifestName), b, 0o644))
}

// Every row leaves v1 serving, the drop quarantined with its reason, and nothing
// of it in the store.
func TestBadInput(t *testing.T) {
	key, err := delta.GenerateKey()
	must(t, err)
	other, err := delta.GenerateKey()
	must(t, err)
	signed := func(p *delta.Pack) { p.Key = key }
	trust := func(o *Options) { o.Keys = []*delta.PublicKey{key.Public()} }

	for _, c := range []struct {
		name    string
		version uint64
		base    uint64
		opts    func(*Options)
		pack    func(*delta.Pack)
		harm    func(r *rig, dir string)
		want    string // in the reason
		is      error  // which the reason wraps
	}{
		{name: "wrong digest of the payload", version: 5, base: 2, want: "v5.qd: payload has root", harm: func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "v5.qd"), -5)
		}},
		{name: "wrong digest of the table", version: 5, base: 2, want: "v5.qd: table has root", harm: func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "v5.qd"), 4096)
		}},
		{name: "wrong digest of the file", version: 5, base: 2, want: "v5.qd: the file has root", harm: func(r *rig, dir string) {
			m := readBack(r.t, dir)
			edit(r.t, dir, `"blake3": "`+m.Files[0].BLAKE3.String(), `"blake3": "`+m.TargetRoot.String())
		}},
		{name: "wrong SHA-256", version: 5, base: 2, want: "SHA-256", harm: func(r *rig, dir string) {
			edit(r.t, dir, readBack(r.t, dir).Files[0].SHA256, strings.Repeat("0", 64))
		}},
		{name: "wrong digest of a full file", version: 5, want: "model.safetensors: the file has root", harm: func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "model.safetensors"), 9999)
		}},
		{name: "target is not what was promised", version: 5, base: 2, want: "the delta's target has root", harm: func(r *rig, dir string) {
			m := readBack(r.t, dir)
			edit(r.t, dir, m.TargetRoot.String(), m.Base.Root.String())
		}},
		{name: "truncated file", version: 5, base: 2, is: ErrSize, want: "the manifest says", harm: func(r *rig, dir string) {
			must(r.t, os.Truncate(filepath.Join(dir, "v5.qd"), 9000))
		}},
		{name: "truncated file with a manifest that agrees", version: 5, base: 2, want: "was cut off", harm: func(r *rig, dir string) {
			m := readBack(r.t, dir)
			edit(r.t, dir, fmt.Sprintf(`"size": %d`, m.Files[0].Size), `"size": 9000`)
			must(r.t, os.Truncate(filepath.Join(dir, "v5.qd"), 9000))
		}},
		{name: "header larger than the file", version: 5, want: "byte 0: header length is", harm: func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "model.safetensors"), 2) // + 4 MiB
			remanifest(r.t, dir, 5)
		}},
		{name: "overlapping tensors", version: 5, want: "begins at byte", harm: func(r *rig, dir string) {
			replace(r.t, filepath.Join(dir, "model.safetensors"), `[163840,262144]`, `[163832,262136]`)
			remanifest(r.t, dir, 5)
		}},
		{name: "overlapping extents", version: 5, base: 2, want: "want them sorted and not touching", harm: func(r *rig, dir string) {
			harmTable(r.t, dir, func(e []delta.Entry) {
				for i := range e {
					if len(e[i].Extents) > 1 {
						e[i].Extents[1].Off = e[i].Extents[0].Off
					}
				}
			})
		}},
		{name: "path leaving the drop", version: 5, want: "plain relative path", harm: func(r *rig, dir string) {
			edit(r.t, dir, `"path": "model.safetensors"`, `"path": "../v2/model.safetensors"`)
		}},
		{name: "symlink out", version: 5, is: ErrEscapes, harm: func(r *rig, dir string) {
			name := filepath.Join(dir, "model.safetensors")
			must(r.t, os.Rename(name, filepath.Join(r.drops, "elsewhere")))
			must(r.t, os.Symlink("../elsewhere", name))
		}},
		{name: "manifest is a symlink out", version: 5, is: ErrEscapes, harm: func(r *rig, dir string) {
			name := filepath.Join(dir, delta.ManifestName)
			must(r.t, os.Rename(name, filepath.Join(r.drops, "m.json")))
			must(r.t, os.Symlink(filepath.Join(r.drops, "m.json"), name))
		}},
		{name: "a pipe instead of a file", version: 5, want: "is no regular file", harm: func(r *rig, dir string) {
			name := filepath.Join(dir, delta.ManifestName)
			must(r.t, os.Remove(name))
			must(r.t, syscall.Mkfifo(name, 0o644))
		}},
		{name: "manifest not JSON", version: 5, want: "MANIFEST.json: line 1: is no JSON", harm: func(r *rig, dir string) {
			edit(r.t, dir, "{", "x")
		}},
		{name: "manifest with a wrong type", version: 5, want: "MANIFEST.json: version: got", harm: func(r *rig, dir string) {
			edit(r.t, dir, `"version": 5`, `"version": "three"`)
		}},
		{name: "manifest too large", version: 5, is: ErrSize, harm: func(r *rig, dir string) {
			must(r.t, os.Truncate(filepath.Join(dir, delta.ManifestName), 2<<20))
		}},
		{name: "already present", version: 3, base: 2, is: ErrPresent, want: "with the same root"},
		{name: "already present, other bytes", version: 3, is: ErrPresent, want: "with another root", harm: func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "model.safetensors"), -1)
			remanifest(r.t, dir, 3)
		}},
		{name: "older", version: 1, is: ErrOlder, want: "comes after score@3"},
		{name: "refused", version: 9, is: ErrRefused, want: "error rate"},
		{name: "unsigned", version: 5, base: 2, is: delta.ErrUnsigned, opts: trust},
		{name: "signed by a stranger", version: 5, base: 2, is: delta.ErrUnknownKey, opts: trust, pack: func(p *delta.Pack) { p.Key = other }},
		{name: "replayed signature", version: 5, base: 2, is: delta.ErrBadSignature, opts: trust, pack: signed, harm: func(r *rig, dir string) {
			edit(r.t, dir, `"version": 5`, `"version": 6`)
		}},
		{name: "replayed signature of a full drop", version: 5, is: ErrSignature, opts: trust, pack: signed, harm: func(r *rig, dir string) {
			edit(r.t, dir, `"version": 5`, `"version": 6`)
		}},
		{name: "signed with another canary weight", version: 5, base: 2, is: delta.ErrBadSignature, opts: trust, pack: signed, harm: func(r *rig, dir string) {
			edit(r.t, dir, `"weight": 5`, `"weight": 100`)
		}},
		{name: "signed with another variable", version: 5, is: delta.ErrBadSignature, opts: trust, pack: func(p *delta.Pack) {
			signed(p)
			p.Manifest.RequiredEnv = []string{"PATH"}
		}, harm: func(r *rig, dir string) {
			edit(r.t, dir, `"required_env": [
    "PATH"
  ],`, ``)
		}},
		{name: "signed with another eval", version: 5, base: 2, is: delta.ErrBadSignature, opts: trust, pack: func(p *delta.Pack) {
			signed(p)
			p.Manifest.Eval = odd
		}, harm: func(r *rig, dir string) {
			edit(r.t, dir, `"scale": "absent"`, `"scale": "weight"`)
		}},
		{name: "environment", version: 5, base: 2, is: ErrEnvironment, pack: func(p *delta.Pack) { p.Manifest.RequiredEnv = []string{"QUADNINE_UNSET"} }},
		{name: "schema", version: 5, base: 2, is: ErrSchema, pack: func(p *delta.Pack) { p.Manifest.SchemaVersion = 4 }},
		{name: "does not prepare", version: 5, base: 2, want: "no such tensor", pack: func(p *delta.Pack) { p.Manifest.Eval = odd }},
		{name: "prepare panics", version: 5, base: 2, want: "defect", pack: func(p *delta.Pack) { p.Manifest.Eval = odder }},
		{name: "over the mapping budget", version: 5, base: 2, is: ErrTooManyMaps, harm: func(r *rig, dir string) {
			r.l.opts.Mappings = mmap.Mappings() + 1 // nothing reads it until the drop is reported
		}},
		{name: "disk full", version: 5, base: 2, is: ErrDiskFull, harm: func(r *rig, dir string) {
			r.l.store.create = full(50_000)
		}},
		{name: "disk full at once", version: 5, is: ErrDiskFull, harm: func(r *rig, dir string) {
			r.l.store.create = func(string) (file, error) { return nil, syscall.ENOSPC }
		}},
		{name: "directory deleted", version: 5, base: 2, is: os.ErrNotExist, harm: func(r *rig, dir string) {
			must(r.t, os.RemoveAll(dir))
		}},
		{name: "file deleted", version: 5, base: 2, is: os.ErrNotExist, harm: func(r *rig, dir string) {
			must(r.t, os.Remove(filepath.Join(dir, "v5.qd")))
		}},
	} {
		for _, mode := range []Mode{Copy, InPlace} {
			if mode == InPlace && errors.Is(c.is, ErrDiskFull) && c.base != 0 {
				continue // nothing that large is written
			}
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				badInput(t, mode, key, c.opts, c.pack, c.harm, c.version, c.base, c.want, c.is)
			})
		}
	}
}

var (
	odd   = &delta.Eval{Kind: delta.EvalRatio, Metric: "odd", Input: map[string]delta.Input{"uv": {Metric: "uv"}}, Weights: map[string]string{"scale": "absent"}}
	odder = &delta.Eval{Kind: delta.EvalRatio, Metric: "odder", Input: map[string]delta.Input{"uv": {Metric: "uv"}}, Weights: map[string]string{"scale": "absent"}}
)

func badInput(t *testing.T, mode Mode, key *delta.PrivateKey, opts func(*Options), pack func(*delta.Pack),
	harm func(*rig, string), version, base uint64, want string, is error,
) {
	t.Helper()
	r := newRig(t, func(o *Options) {
		store := o.Store
		if opts != nil {
			opts(o)
		}
		o.Store, o.Mode = store, mode
		o.Prepare = func(w View) (any, error) {
			switch e := w.Info().Eval; {
			case e == odd || e != nil && e.Metric == "odd":
				return nil, errors.New("no such tensor")
			case e != nil:
				panic("an odd model")
			}
			return "prepared", nil
		}
	})
	defer r.close()
	// v2 is the standby, v3 active, v9 refused.
	quiet := func(p *delta.Pack) { atOnce(p); p.Key = key }
	r.drop(2, 0, quiet)
	r.await(EventActive, 2)
	r.drop(3, 2, quiet)
	r.await(EventActive, 3)
	r.judge.say(9, Rollback)
	r.drop(9, 2, func(p *delta.Pack) { p.Key = key })
	r.await(EventRolledBack, 3)
	r.quiesce()

	const name = "bad"
	dir := filepath.Join(r.drops, name)
	r.pack(name, version, base, pack)
	if harm != nil {
		harm(r, dir)
	}
	before := mmap.Mappings()
	r.report(name)
	for ev := range r.l.Events() {
		if ev.Kind == EventQuarantined && ev.Drop == name {
			break
		}
	}
	r.serves(3)
	r.quiesce()
	q := quarantineOf(r.l, name)
	if q == nil || !strings.Contains(q.Reason.Error(), want) || is != nil && !errors.Is(q.Reason, is) {
		t.Fatalf("quarantined as %+v, want %q and %v", q, want, is)
	}
	if before != mmap.Mappings() {
		t.Errorf("%d mappings left behind", mmap.Mappings()-before)
	}
	r.l.store.create = func(name string) (file, error) { return os.Create(name) }
	if left := folders(t, r.opts.Store); left != "models/score/2 models/score/3" {
		t.Errorf("in the store: %s", left)
	}
	if lease, err := r.l.AcquireVersion("score", 9); err == nil || lease.Info() != nil {
		t.Error("a refused version can be pinned")
	}
	// The next good drop passes all the same.
	r.l.opts.Mappings = 1 << 20
	r.drop(10, 3, quiet)
	r.await2(EventActive, 10)
	r.serves(10)
}

type why struct{ Reason error }

func quarantineOf(l *Loader, name string) *why {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.drops[name]; d != nil && d.status == quarantined {
		return &why{d.reason}
	}
	return nil
}

// await2 waits for an event, whatever else happens.
func (r *rig) await2(k Kind, n uint64) {
	for ev := range r.l.Events() {
		if ev.Kind == k && ev.Version == n {
			return
		}
	}
}

// quiesce waits until the workers have nothing to do: behind the last job of each
// lane, without keeping a core busy that they need.
func (r *rig) quiesce() {
	r.t.Helper()
	for done := false; !done; {
		passed := make(chan error, 1<<10)
		n := 0
		must(r.t, r.l.call(r.t.Context(), func() error {
			lanes := maps.Clone(r.l.running)
			for _, j := range r.l.queue {
				lanes[j.lane] = true
			}
			for on := range lanes {
				r.l.submit(on, func() error { return nil }, func(err error) { passed <- err })
			}
			n, done = len(lanes), len(lanes) == 0
			return nil
		}))
		for range n {
			must(r.t, <-passed)
		}
	}
}

// folders lists the versions and what lies in tmp of a store.
func folders(tb testing.TB, store string) string {
	tb.Helper()
	var out []string
	for _, p := range []string{"models/*/*", "tmp/*"} {
		list, err := filepath.Glob(filepath.Join(store, p))
		must(tb, err)
		for _, name := range list {
			rel, err := filepath.Rel(store, name)
			must(tb, err)
			out = append(out, rel)
		}
	}
	return strings.Join(out, " ")
}

func readBack(tb testing.TB, dir string) *delta.Manifest {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, delta.ManifestName))
	must(tb, err)
	m, err := delta.ParseManifest("", b)
	must(tb, err)
	return m
}

func replace(tb testing.TB, name, old, next string) {
	tb.Helper()
	b, err := os.ReadFile(name)
	must(tb, err)
	s := strings.Replace(string(b), old, next, 1)
	if s == string(b) {
		tb.Fatalf("%q is not in %s: %q", old, name, b[:min(len(b), 600)])
	}
	must(tb, os.WriteFile(name, []byte(s), 0o644))
}

// full returns a way to create files on a disk with room for n bytes a file.
func full(n int) func(string) (file, error) {
	return func(name string) (file, error) {
		f, err := os.Create(name)
		return &fullFile{f, n}, err
	}
}

type fullFile struct {
	*os.File

	left int
}

func (f *fullFile) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	m, err := f.File.Write(p[:n])
	if err == nil && n < len(p) {
		err = &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return m, err
}

func TestFiftyDropsAtOnce(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	for n := uint64(2); n <= 51; n++ {
		r.pack("v"+strconv.FormatUint(n, 10), n, 1, atOnce)
	}
	for n := uint64(2); n <= 51; n++ {
		r.report("v" + strconv.FormatUint(n, 10))
		if lease, err := r.l.Acquire("score", n<<58); err != nil {
			t.Error(err)
		} else {
			lease.Release()
		}
	}
	r.await2(EventActive, 51)
	r.serves(51)
	r.quiesce()
	for _, q := range r.l.Quarantined() {
		if !strings.Contains(q.Reason, ErrOlder.Error()) {
			t.Errorf("%+v", q)
		}
	}
	if n := len(r.l.Waiting()); n != 0 {
		t.Errorf("%d drops wait", n)
	}
}
