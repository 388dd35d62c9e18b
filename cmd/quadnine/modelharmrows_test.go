package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// baddrop is a drop that must not be used: how it is made, and what /models says
// then: where, why, and what to do next.
type badDrop struct {
	name string
	make func(h *harmed, n uint64) (drop string)
	says []string
}

// harming makes a drop of version n, a delta from the active one or (whole) a full
// file, spoils it and drops it.
func harming(whole bool, spoil func(h *harmed, dir string, n uint64)) func(*harmed, uint64) string {
	return func(h *harmed, n uint64) string {
		base := h.n
		if whole {
			base = 0
		}
		dir := h.pack("score", "score", n, base, nil)
		spoil(h, dir, n)
		return h.commit(dir)
	}
}

// saying makes a whole drop of version n whose manifest says something else.
func saying(change func(*delta.Pack)) func(*harmed, uint64) string {
	return func(h *harmed, n uint64) string { return h.commit(h.pack("score", "score", n, 0, change)) }
}

// at is a file of a drop.
func at(dir, name string) string { return filepath.Join(dir, name) }

// flip changes one byte of a file; a negative place counts from its end.
func (h *harmed) flip(name string, place int) {
	h.t.Helper()
	b, err := os.ReadFile(name)
	h.must(err)
	if place < 0 {
		place += len(b)
	}
	b[place] ^= 0x40
	h.must(os.WriteFile(name, b, 0o600))
}

// edit changes text in a drop's manifest.
func (h *harmed) edit(dir, old, next string) {
	h.t.Helper()
	b, err := os.ReadFile(at(dir, delta.ManifestName))
	h.must(err)
	if !strings.Contains(string(b), old) {
		h.t.Fatalf("no %q in\n%s", old, b)
	}
	h.must(os.WriteFile(at(dir, delta.ManifestName), []byte(strings.Replace(string(b), old, next, 1)), 0o600))
}

const wholeFile = "model.safetensors"

func badDrops() []badDrop {
	qd := func(n uint64) string { return fmt.Sprintf("v%d.qd", n) }
	return []badDrop{
		{"a flipped bit in the delta's payload", harming(false, func(h *harmed, dir string, n uint64) { h.flip(at(dir, qd(n)), -5) }), []string{".qd: payload has root", "copy it again"}},
		{"a flipped bit in the delta's table", harming(false, func(h *harmed, dir string, n uint64) { h.flip(at(dir, qd(n)), 4100) }), []string{".qd: table has root", "copy it again"}},
		{"a flipped bit in a full file", harming(true, func(h *harmed, dir string, n uint64) { h.flip(at(dir, wholeFile), 9999) }), []string{"model.safetensors: the file has root", "the manifest says", "copy it again"}},
		{"a delta that was cut", harming(false, func(h *harmed, dir string, n uint64) { h.must(os.Truncate(at(dir, qd(n)), 5000)) }), []string{".qd: has 5000 bytes, the manifest says", "cut off, or still being written", "copy it, then rename MANIFEST.json"}},
		{"a file that is missing", harming(false, func(h *harmed, dir string, n uint64) { h.must(os.Remove(at(dir, qd(n)))) }), []string{".qd: no such file", "put it there, and rename MANIFEST.json"}},
		{"a file that is a link out of the drop", harming(true, func(h *harmed, dir string, n uint64) {
			h.must(os.Rename(at(dir, wholeFile), at(h.work, fmt.Sprint("elsewhere", n))))
			h.must(os.Symlink(at(h.work, fmt.Sprint("elsewhere", n)), at(dir, wholeFile)))
		}), []string{"model.safetensors: leads out of the drop", "put the file itself there"}},
		{"a manifest that is a link out of the drop", harming(true, func(h *harmed, dir string, n uint64) {
			h.must(os.Rename(at(dir, delta.ManifestName), at(h.work, fmt.Sprint("manifest", n))))
			h.must(os.Symlink(at(h.work, fmt.Sprint("manifest", n)), at(dir, delta.ManifestName)))
		}), []string{"MANIFEST.json: path escapes", "leads out of the drop", "put the file itself there"}},
		{"a path out of the drop", harming(true, func(h *harmed, dir string, n uint64) {
			h.edit(dir, `"path": "model.safetensors"`, `"path": "../`+fmt.Sprint("score-v", h.n)+`/model.safetensors"`)
		}), []string{`MANIFEST.json: files[0].path: "../score-v`, "want a plain relative path that stays in the drop"}},
		{"a pipe for a file", harming(true, func(h *harmed, dir string, n uint64) {
			h.must(os.Remove(at(dir, wholeFile)))
			h.must(syscall.Mkfifo(at(dir, wholeFile), 0o600))
		}), []string{"model.safetensors: "}},
		{"a manifest that was cut", harming(true, func(h *harmed, dir string, n uint64) { h.must(os.Truncate(at(dir, delta.ManifestName), 40)) }), []string{"MANIFEST.json: line 3: is no JSON"}},
		{"a manifest with a wrong type", harming(true, func(h *harmed, dir string, n uint64) {
			h.edit(dir, fmt.Sprintf(`"version": %d`, n), `"version": "new"`)
		}), []string{`MANIFEST.json: version: got text "new", want a whole number`}},
		{"a manifest of 4 GiB", harming(true, func(h *harmed, dir string, n uint64) { h.must(os.Truncate(at(dir, delta.ManifestName), 4<<30)) }), []string{"MANIFEST.json: has 4294967296 bytes, at most", "rename a manifest there"}},
		{"a base that is not here", func(h *harmed, n uint64) string {
			return h.commit(h.pack("score", "score", h.take(), n, nil))
		}, []string{"base missing: score@", "is not here and the drop has no full file: drop that version, or add one"}},
		{"another target than was promised", harming(false, func(h *harmed, dir string, n uint64) {
			b, err := os.ReadFile(at(dir, delta.ManifestName))
			h.must(err)
			m, err := delta.ParseManifest("", b)
			h.must(err)
			h.edit(dir, m.TargetRoot.String(), m.Base.Root.String())
		}), []string{"the delta's target has root", "the manifest says", "copy it again"}},
		{"a version that is active", func(h *harmed, n uint64) string {
			dir := h.pack("score", "score", n, 0, func(p *delta.Pack) { p.Manifest.Version = h.n })
			return h.commit(dir)
		}, []string{"is active, with another root", "other bytes need a higher number"}},
		{"a number that was taken back", func(h *harmed, n uint64) string {
			h.takenBack(n)
			return h.commit(h.pack("score", "score", n, 0, nil))
		}, []string{"was rolled back (verdict=rollback why=non-finite", "give its successor a higher number"}},
		{"a version before the active one", func(h *harmed, n uint64) string {
			return h.commit(h.pack("score", "score", n, 0, func(p *delta.Pack) { p.Manifest.Version = 1 }))
		}, []string{"score@1 comes after score@", "to go back, roll back"}},
		{"a variable that is not set", saying(func(p *delta.Pack) { p.Manifest.RequiredEnv = []string{"QUADNINE_NOT_SET"} }), []string{"required_env: QUADNINE_NOT_SET is not set here; start the sidecar with it"}},
		{"a schema that is not known", saying(func(p *delta.Pack) { p.Manifest.SchemaVersion = 9 }), []string{"schema_version: is 9, this program knows [1]; ship it as one of these"}},
		{"a weight that is not there", saying(func(p *delta.Pack) { p.Manifest.Eval.Weights["scale"] = "absent" }), []string{`eval.weights.scale is "absent": the version has no tensor of that name`}},
		{"another metric than before", saying(func(p *delta.Pack) { p.Manifest.Eval.Metric = "fresh" }), []string{"model score answers metric score, this version fresh: give it a model of its own"}},
		{"another model's metric", func(h *harmed, n uint64) string { return h.commit(h.pack("third", "other", n, 0, nil)) }, []string{"metric other is answered by model other already: give this one another metric"}},
		{"a warm-up that is answered otherwise", saying(func(p *delta.Pack) {
			p.Manifest.Warmup = []delta.Warmup{{Input: map[string]float64{"uv": 1, "pv": 2}, Max: new(-1.0)}}
		}), []string{"warmup[0]: score@", "max is -1"}},
		{"more copies than one version may take", func(h *harmed, n uint64) string {
			rows := make([]int, 40)
			for i := range rows {
				rows[i] = 25*i + 1
			}
			return h.commit(h.packFile("score", "score", n, embedded(h.t, float64(n+1), rows...), h.n, h.file(h.n), nil))
		}, []string{"bytes of private memory in", "at most 65536 are allowed", "ship it whole, with tensors that begin on pages, or allow more"}},
	}
}

// refused makes a bad drop and checks that it is not used, that /models says why,
// and that both models answer as before.
func (h *harmed) refused(bad badDrop) {
	h.t.Helper()
	drop, why := bad.make(h, h.take()), ""
	h.until("reason for "+bad.name, func() bool { why = h.reason(drop); return why != "" })
	for _, part := range bad.says {
		if !strings.Contains(why, part) {
			h.t.Errorf("%s: /models says %q, want %q", bad.name, why, part)
		}
	}
	h.answers(h.n)
	if score, other := h.state("score", h.n), h.state("other", 1); score != "active" || other != "active" {
		h.t.Errorf("%s: then score@%d is %q, other@1 %q", bad.name, h.n, score, other)
	}
}

// TestBadDropsUnderLoad drops one bad version after another between good ones,
// while requests for two models flow over HTTP/2 and HTTP/1.1: every reply is whole
// and has the number of the version that it names, each bad drop is explained, and
// each good one is active.
func TestBadDropsUnderLoad(t *testing.T) {
	for _, ingest := range []string{"copy", "inplace"} {
		t.Run(ingest, func(t *testing.T) {
			h := harm(t, modelsConfig{ingest: ingest, copyLimit: "64KiB"}, nil)
			for _, bad := range badDrops() {
				h.refused(bad)
				h.ship(h.n)
			}
			h.end()
		})
	}
}

// TestBadSignaturesUnderLoad is the same where every drop must be signed.
func TestBadSignaturesUnderLoad(t *testing.T) {
	newKey := func() *delta.PrivateKey {
		key, err := delta.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, stranger := newKey(), newKey()
	h := harm(t, modelsConfig{keys: []string{put(t, t.TempDir(), "ship.pub", key.Public().Marshal())}}, key)
	for _, bad := range []badDrop{
		{"unsigned", saying(func(p *delta.Pack) { p.Key = nil }), []string{"no signature: sign the drop with quadnine model pack --key"}},
		{"signed by a stranger", saying(func(p *delta.Pack) { p.Key = stranger }), []string{stranger.Public().ID}},
		{"another number under the same signature", harming(true, func(h *harmed, dir string, n uint64) {
			h.edit(dir, fmt.Sprintf(`"version": %d`, n), fmt.Sprintf(`"version": %d`, n+1000))
		}), []string{"signature"}},
		{"another canary under the same signature", harming(false, func(h *harmed, dir string, n uint64) {
			h.edit(dir, `"weight": 0`, `"weight": 100`)
		}), []string{"signature"}},
		{"another weight under the same signature", harming(true, func(h *harmed, dir string, n uint64) {
			h.edit(dir, `"scale": "scale"`, `"scale": "bias"`)
		}), []string{"signature"}},
	} {
		h.refused(bad)
		h.ship(h.n)
	}
	h.end()
}
