package delta

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func twoVersions() (v1, v2 []byte) {
	a := noise(1, 30*page)
	b := bytes.Clone(a)
	b[9*page]++
	return buildSafetensors([]array{{"a", a}}, 0), buildSafetensors([]array{{"a", b}}, 0)
}

// packed writes a signed drop of both files.
func packed(t *testing.T, key *PrivateKey) (dir string, m *Manifest) {
	t.Helper()
	v1, v2 := twoVersions()
	dir = t.TempDir()
	p := Pack{Manifest: Manifest{Model: "score", Version: 2, SchemaVersion: 1}, Key: key}
	m, _, err := p.Delta(t.Context(), openRoot(t, dir), 1, bytes.NewReader(v1), bytes.NewReader(v2), true)
	if err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func verifyDrop(t *testing.T, dir string, keys ...*PublicKey) error {
	t.Helper()
	d, err := OpenDrop(openRoot(t, dir))
	if err != nil {
		return err
	}
	return d.Verify(t.Context(), keys, Options{Workers: 2})
}

func newKey(t *testing.T) *PrivateKey {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPackAndVerify(t *testing.T) {
	key := newKey(t)
	dir, m := packed(t, key)
	if err := verifyDrop(t, dir, newKey(t).Public(), key.Public()); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 3 {
		t.Fatalf("%v, %v: want manifest, delta and full file", names, err)
	}
	_, v2 := twoVersions()
	if full, _ := m.File(RoleFull); full.BLAKE3 != plainRoot(v2) || m.TargetRoot != plainRoot(v2) {
		t.Error("the manifest's roots are not the version's")
	}
	if err := verifyDrop(t, dir, newKey(t).Public()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another key: %v, want ErrUnknownKey", err)
	}
	unsigned, _ := packed(t, nil)
	if err := verifyDrop(t, unsigned, key.Public()); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v, want ErrUnsigned", err)
	}
	if err := verifyDrop(t, unsigned); err != nil {
		t.Errorf("unsigned, no key given: %v", err)
	}
}

func TestPackFull(t *testing.T) {
	v1, _ := twoVersions()
	key := newKey(t)
	dir := t.TempDir()
	p := Pack{Manifest: Manifest{Model: "score", Version: 1, SchemaVersion: 1, Canary: &Canary{}}, Key: key}
	if _, err := p.Full(t.Context(), openRoot(t, dir), bytes.NewReader(v1)); err != nil {
		t.Fatal(err)
	}
	if err := verifyDrop(t, dir, key.Public()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Full(t.Context(), openRoot(t, dir), bytes.NewReader(v1)); !errors.Is(err, os.ErrExist) {
		t.Fatalf("a second time: %v, want that it is there already", err)
	}
}

// A patch is signed by its digest and both roots: another patch, or another role,
// is refused.
func TestPackPatches(t *testing.T) {
	v1, v2 := twoVersions()
	key := newKey(t)
	for _, more := range []bool{false, true} {
		dir := t.TempDir()
		p := Pack{Manifest: Manifest{Model: "score", Version: 2, SchemaVersion: 1}, Key: key}
		patches := []PatchFile{{RoleBSDiff4, bytes.NewReader([]byte("one"))}, {RoleZstdPatch, bytes.NewReader([]byte("another"))}}
		m, report, err := p.Patches(t.Context(), openRoot(t, dir), 1, bytes.NewReader(v1), bytes.NewReader(v2), patches, more, more)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.File(RoleDelta); ok != more || (report != nil) != more || m.Base.Root != plainRoot(v1) || m.TargetRoot != plainRoot(v2) {
			t.Errorf("%+v, %+v", m, report)
		}
		if err := verifyDrop(t, dir, key.Public()); err != nil {
			t.Errorf("with delta and full file %t: %v", more, err)
		}
		write := func(name string, b []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(filepath.Join(dir, ManifestName))
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range [][2]string{{`"role": "bsdiff4"`, `"role": "zstd-patch"`}, {`"v2.bsdiff4"`, `"v2.zst"`}, {`"size": 3`, `"size": 4`}} {
			write(ManifestName, bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1))
			if verifyDrop(t, dir, key.Public()) == nil {
				t.Errorf("%s in place of %s is taken", change[1], change[0])
			}
		}
		write(ManifestName, text)
		write("v2.bsdiff4", []byte("two"))
		if err := verifyDrop(t, dir, key.Public()); err == nil || !strings.Contains(err.Error(), "v2.bsdiff4") {
			t.Errorf("another patch: %v", err)
		}
	}
}

// A drop that fails leaves nothing behind: no watcher may take half of it.
func TestFailedPackLeavesNothing(t *testing.T) {
	v1, v2 := twoVersions()
	for name, pack := range map[string]func(root *os.Root) error{
		"version not above the base's": func(root *os.Root) error {
			p := Pack{Manifest: Manifest{Model: "score", Version: 1, SchemaVersion: 1}}
			_, _, err := p.Delta(t.Context(), root, 1, bytes.NewReader(v1), bytes.NewReader(v2), true)
			return err
		},
		"interrupted": func(root *os.Root) error {
			ctx, cancel := context.WithCancel(t.Context())
			var n int64
			p := Pack{Manifest: Manifest{Model: "score", Version: 2, SchemaVersion: 1}, Options: Options{Progress: func(m int64) {
				if n += m; n > 3*int64(len(v1)) { // hashed and compared: the delta is being written
					cancel()
				}
			}}}
			_, _, err := p.Delta(ctx, root, 1, bytes.NewReader(v1), bytes.NewReader(v2), true)
			return err
		},
		"cut source": func(root *os.Root) error {
			p := Pack{Manifest: Manifest{Model: "score", Version: 2, SchemaVersion: 1}}
			_, err := p.Full(t.Context(), root, cut{bytes.NewReader(v1)})
			return err
		},
	} {
		dir := t.TempDir()
		if err := pack(openRoot(t, dir)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestVerifyDropRefuses(t *testing.T) {
	key := newKey(t)
	edit := func(t *testing.T, dir, name string, change func([]byte) []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	for name, c := range map[string]struct {
		change func(dir string)
		want   string
	}{
		"payload changed": {func(dir string) { edit(t, dir, "v2.qd", flip(-1)) }, "v2.qd: payload has root b3:"},
		"header changed":  {func(dir string) { edit(t, dir, "v2.qd", flip(30)) }, "v2.qd: byte 200: header has checksum"},
		"full changed":    {func(dir string) { edit(t, dir, "model.safetensors", flip(-1)) }, "model.safetensors: the file has root b3:"},
		"cut":             {func(dir string) { edit(t, dir, "v2.qd", func(b []byte) []byte { return b[:9000] }) }, "v2.qd: ends at byte 9000, the manifest says 12288"},
		"missing":         {func(dir string) { _ = os.Remove(filepath.Join(dir, "v2.qd")) }, "openat v2.qd: no such file"},
		"sha256": {func(dir string) {
			edit(t, dir, ManifestName, func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"sha256": "`), []byte(`"sha256": "000000`), 1)[:len(b)]
			})
		}, "MANIFEST.json"},
		"renamed": {func(dir string) {
			edit(t, dir, ManifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"score"`), []byte(`"store"`), 1) })
		}, "MANIFEST.json: signature: bad signature: key "},
		"version replayed": {func(dir string) {
			edit(t, dir, ManifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"version": 2`), []byte(`"version": 3`), 1) })
		}, "bad signature"},
		"symlink out": {func(dir string) {
			out := filepath.Join(t.TempDir(), "v2.qd")
			if err := os.Rename(filepath.Join(dir, "v2.qd"), out); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(out, filepath.Join(dir, "v2.qd")); err != nil {
				t.Fatal(err)
			}
		}, "path escapes from parent"},
		"a directory": {func(dir string) {
			_ = os.Remove(filepath.Join(dir, "v2.qd"))
			if err := os.Mkdir(filepath.Join(dir, "v2.qd"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "v2.qd: is no plain file"},
		"no manifest": {func(dir string) { _ = os.Remove(filepath.Join(dir, ManifestName)) }, "MANIFEST.json: no such file"},
		"other's delta": {func(dir string) {
			plan, err := Diff(t.Context(), bytes.NewReader(noise(8, 9)), bytes.NewReader(noise(9, 9)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := plan.Write(t.Context(), &b, Options{}); err != nil {
				t.Fatal(err)
			}
			edit(t, dir, "v2.qd", func([]byte) []byte { return b.Bytes() })
			m, err := os.ReadFile(filepath.Join(dir, ManifestName))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := ParseManifest("", m)
			if err != nil {
				t.Fatal(err)
			}
			parsed.Files[0].Size, parsed.Files[0].BLAKE3, parsed.Files[0].SHA256 = int64(b.Len()), RootOfBytes(b.Bytes()), ""
			edit(t, dir, ManifestName, func([]byte) []byte {
				text, err := parsed.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				return text
			})
		}, "v2.qd: the delta's base has root b3:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := packed(t, key)
			c.change(dir)
			if err := verifyDrop(t, dir, key.Public()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestKeyFiles(t *testing.T) {
	k := newKey(t)
	again, err := ParsePrivateKey(k.Marshal())
	if err != nil || again.ID != k.ID || !bytes.Equal(again.key, k.key) {
		t.Fatalf("private: %v", err)
	}
	pub, err := ParsePublicKey(k.Public().Marshal())
	if err != nil || pub.ID != k.ID {
		t.Fatalf("public: %v", err)
	}
	root := RootOfBytes([]byte("x"))
	if err := VerifySignature([]*PublicKey{pub}, again.Sign(root), root); err != nil {
		t.Error(err)
	}
	other := newKey(t)
	for name, b := range map[string][]byte{
		"empty": nil, "the private one": k.Marshal(), "two": append(k.Public().Marshal(), k.Public().Marshal()...),
		"short": []byte(publicWord + " " + k.ID + " AAAA\n"), "no base64": []byte(publicWord + " " + k.ID + " !\n"),
		"another's id": []byte(keyLine(publicWord, other.ID, k.Public().key)),
	} {
		if _, err := ParsePublicKey(b); err == nil {
			t.Errorf("public, %s: taken", name)
		}
	}
	for name, b := range map[string][]byte{"the public one": k.Public().Marshal(), "another's id": []byte(keyLine(privateWord, other.ID, k.key.Seed()))} {
		if _, err := ParsePrivateKey(b); err == nil {
			t.Errorf("private, %s: taken", name)
		}
	}
}

// What the signature is over, so that a change of the definition is noticed.
func TestSignedRootIsAsDefined(t *testing.T) {
	m := Manifest{
		Model: "m", Version: 0x0102, SchemaVersion: 1, TargetRoot: Root{4}, Base: &Base{1, Root{1}}, Files: []File{{Path: "p", Role: RoleDelta, BLAKE3: Root{5}}}, Signature: &Signature{KeyID: "k"},
		Eval:   &Eval{Kind: EvalRatio, Metric: "é<\u2028", Input: map[string]Input{"\U0001f600": {Metric: "x\x01\n"}, "\uffee": {Metric: "\"\\/\x7f"}}, Weights: map[string]string{}},
		Canary: &Canary{Weight: math.Copysign(0, -1), PromoteAfter: 90 * time.Second, MinRequests: 1e15},
	}
	h := Header{BaseRoot: Root{1}, PayloadRoot: Root{2}, TableRoot: Root{3}, TargetRoot: Root{4}}
	got, err := m.SignedRoot(&h)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("quadnine.signed.v2\x00")
	for i := range byte(4) {
		r := Root{i + 1}
		text = append(text, r[:]...)
	}
	root := func(first string) string { return `"b3:` + first + strings.Repeat("0", 62) + `"` }
	text = append(text, `{"base":{"root":`+root("01")+`,"version":1},"canary":{"min_requests":1000000000000000,"promote_after":"1m30s","weight":0},`+
		`"eval":{"input":{"`+"\U0001f600"+`":{"metric":"x\u0001\n"},"`+"\uffee"+`":{"metric":"\"\\/`+"\x7f"+`"}},"kind":"ratio","metric":"é<`+"\u2028"+`","weights":{}},`+
		`"files":[{"blake3":`+root("05")+`,"path":"p","role":"delta","size":0}],"model":"m","schema_version":1,"target_root":`+root("04")+`,"version":258}`...)
	if want := leaf(text); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := m.SignedRoot(nil); err == nil {
		t.Error("signed without the delta's header")
	}
	patch := m
	patch.Files = []File{{Path: "p", Role: RoleBSDiff4, BLAKE3: Root{5}}}
	if _, err := patch.SignedRoot(&h); err == nil {
		t.Error("signed with the header of a delta that is not there")
	}
	if other, err := patch.SignedRoot(nil); err != nil || other == got {
		t.Errorf("a patch is signed as %v, %v", other, err)
	}
	h.TargetRoot = Root{9}
	if _, err := m.SignedRoot(&h); err == nil {
		t.Error("signed with another delta's header")
	}
}
