package loader

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
)

// realKey is the key that loader/testdata/signed was signed with, by OpenSSF's own
// tool: see modelsign/testdata/gen.py.
func realKey(tb testing.TB) *modelsign.Key {
	tb.Helper()
	b, err := os.ReadFile("modelsign/testdata/p256.pub")
	must(tb, err)
	k, err := modelsign.ParseKey(b)
	must(tb, err)
	return k
}

// signer signs drops as OpenSSF's tool does.
type signer struct {
	private *ecdsa.PrivateKey
	key     *modelsign.Key
}

func newSigner(tb testing.TB) *signer {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	must(tb, err)
	key, err := modelsign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	must(tb, err)
	return &signer{private, key}
}

// sign writes the bundle of all files in dir.
func (s *signer) sign(tb testing.TB, dir string) {
	tb.Helper()
	root := sha256.New()
	var resources []any
	must(tb, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == modelsign.FileName {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		sum := sha256.Sum256(b)
		_, _ = root.Write(sum[:])
		resources = append(resources, map[string]any{"name": name, "algorithm": "sha256", "digest": hex.EncodeToString(sum[:])})
		return err
	}))
	payload, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0",
		"subject":   []any{map[string]any{"name": "drop", "digest": map[string]any{"sha256": hex.EncodeToString(root.Sum(nil))}}},
		"predicate": map[string]any{"serialization": map[string]any{"method": "files", "hash_type": "sha256"}, "resources": resources},
	})
	must(tb, err)
	const kind = "application/vnd.in-toto+json"
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, s.private, sum[:])
	must(tb, err)
	text := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	b, err := json.Marshal(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": s.key.ID}},
		"dsseEnvelope": map[string]any{"payload": text(payload), "payloadType": kind, "signatures": []any{map[string]any{"sig": text(sig)}}},
	})
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, modelsign.FileName), b, 0o644))
}

// trusting opens a rig that trusts these keys, and takes drops in mode.
func trusting(tb testing.TB, mode Mode, keys ...*modelsign.Key) *rig {
	tb.Helper()
	r := newRig(tb, func(o *Options) { o.Trust, o.Mode, o.prompt = keys, mode, true })
	r.shape = tiny
	return r
}

// reason waits until a drop is quarantined and returns why.
func (r *rig) reason() string {
	r.t.Helper()
	for ev := range r.l.Events() {
		if ev.Kind == EventQuarantined {
			return ev.Reason
		}
		if ev.Kind == EventActive || ev.Kind == EventCanary {
			r.t.Fatalf("%+v", ev)
		}
	}
	return ""
}

// A drop that OpenSSF's own tool signed is taken; with one byte changed anywhere, or
// a file more, it is not.
func TestDropSignedByTheRealTool(t *testing.T) {
	put := func(r *rig) string {
		r.t.Helper()
		dir := filepath.Join(r.drops, "1")
		must(r.t, os.CopyFS(dir, os.DirFS("testdata/signed")))
		return dir
	}
	for _, mode := range []Mode{Copy, InPlace} {
		r := trusting(t, mode, newSigner(t).key, realKey(t))
		must(t, os.WriteFile(filepath.Join(put(r), ".note"), nil, 0o644)) // nothing can refer to it
		r.report("1")
		r.await(EventActive, 1)
		r.close()
	}
	appended := func(name string) func(r *rig, dir string) {
		return func(r *rig, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
			must(r.t, err)
			_, err = f.WriteString("\n")
			must(r.t, err)
			must(r.t, f.Close())
		}
	}
	for _, c := range []struct {
		name, want string
		harm       func(r *rig, dir string)
	}{
		{"manifest", "signature refused: model.sig: MANIFEST.json: SHA-256 is ", appended(delta.ManifestName)},
		{"weights", "model.safetensors: the file has root", func(r *rig, dir string) { flip(r.t, filepath.Join(dir, "model.safetensors"), -1) }},
		{"weights and manifest", "signature refused: model.sig: MANIFEST.json: SHA-256 is ", func(r *rig, dir string) {
			flip(r.t, filepath.Join(dir, "model.safetensors"), -1)
			remanifest(r.t, dir, 1)
		}},
		{"one more", "signature refused: model.sig: notes.txt is in the drop and not in it", appended("notes.txt")},
		{"signature", "signature refused: model.sig: ", func(r *rig, dir string) { flip(r.t, filepath.Join(dir, modelsign.FileName), -40) }},
		{"statement", "signature refused: model.sig: ", func(r *rig, dir string) { flip(r.t, filepath.Join(dir, modelsign.FileName), 400) }},
		{"too large", "signature refused: model.sig: has 2097152 bytes, at most 1048576 are read", func(r *rig, dir string) {
			must(r.t, os.Truncate(filepath.Join(dir, modelsign.FileName), 2<<20))
		}},
		{"missing", "signature refused: model.sig: no signature: it is missing: sign the drop with `model_signing sign key`", func(r *rig, dir string) {
			must(r.t, os.Remove(filepath.Join(dir, modelsign.FileName)))
		}},
		{"no file", "signature refused: model.sig: model.sig: is no regular file", func(r *rig, dir string) {
			name := filepath.Join(dir, modelsign.FileName)
			must(r.t, os.Remove(name))
			must(r.t, os.Mkdir(name, 0o755))
		}},
		{"keyless", "model.sig: verificationMaterial.x509CertificateChain: is signed by a certificate", func(r *rig, dir string) {
			b, err := os.ReadFile("modelsign/testdata/certificate.sig")
			must(r.t, err)
			must(r.t, os.WriteFile(filepath.Join(dir, modelsign.FileName), b, 0o644))
		}},
		{"another drop's", "model.sig: MANIFEST.json is not in it", func(r *rig, dir string) {
			b, err := os.ReadFile("modelsign/testdata/good.sig")
			must(r.t, err)
			must(r.t, os.WriteFile(filepath.Join(dir, modelsign.FileName), b, 0o644))
		}},
	} {
		for _, mode := range []Mode{Copy, InPlace} {
			t.Run(c.name+" "+string(mode), func(t *testing.T) {
				r := trusting(t, mode, realKey(t))
				defer r.close()
				c.harm(r, put(r))
				r.report("1")
				if got := r.reason(); !strings.Contains(got, c.want) {
					t.Errorf("quarantined for %q, want %q", got, c.want)
				}
			})
		}
	}
	t.Run("another key", func(t *testing.T) {
		r := trusting(t, Copy, newSigner(t).key)
		defer r.close()
		put(r)
		r.report("1")
		if got := r.reason(); !strings.Contains(got, "unknown key") {
			t.Errorf("quarantined for %q", got)
		}
	})
}

// A drop whose bundle will not do is refused before any of it is brought in.
func TestUnsignedDropIsNotCopied(t *testing.T) {
	r := trusting(t, Copy, newSigner(t).key)
	defer r.close()
	r.pack("1", 1, 0, nil)
	flip(t, filepath.Join(r.drops, "1", "model.safetensors"), -1) // which copying would find
	r.report("1")
	if got := r.reason(); !strings.HasPrefix(got, "signature refused: model.sig: no signature: it is missing") {
		t.Errorf("quarantined for %q", got)
	}
}

// In place it is the open file that is held against the bundle: another one may have
// its name by now.
func TestBundleIsAboutTheFileInUse(t *testing.T) {
	root, err := os.OpenRoot("testdata/signed")
	must(t, err)
	defer root.Close()
	raw, mf, err := readPlain(root)
	must(t, err)
	use, ok := mf.File(delta.RoleFull)
	if !ok {
		t.Fatal("no full file")
	}
	good, err := root.ReadFile(use.Path)
	must(t, err)
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, good, 0o644))
	in := &ingest{raw: raw, mf: mf, mode: InPlace, trust: []*modelsign.Key{realKey(t)}}
	in.bundle.open(root, in.trust)
	check := func() error {
		f, err := os.Open(other)
		must(t, err)
		defer f.Close()
		return in.checkBundle(t.Context(), root, &image{blob: &blob{f, use.Path, use.Size}}, use, "")
	}
	must(t, check())
	flip(t, other, -1)
	if err := check(); err == nil || !strings.Contains(err.Error(), use.Path+": SHA-256 is ") {
		t.Errorf("%v", err)
	}
}

// A bundle signs all files of a drop: also the one that is not used, one that is
// missing, and what an image layout consists of.
func TestBundleOverOtherDrops(t *testing.T) {
	s := newSigner(t)
	bundled := func(r *rig, name string) { s.sign(r.t, filepath.Join(r.drops, name)) }
	r := trusting(t, Copy, s.key)
	defer r.close()
	r.layout("1", 1, 0, "", nil)
	bundled(r, "1")
	r.report("1")
	r.await(EventActive, 1)
	r.pack("2", 2, 1, atOnce)
	bundled(r, "2")
	r.report("2")
	r.await(EventActive, 2)
	r.layout("3", 3, 0, "", atOnce)
	bundled(r, "3")
	must(t, os.WriteFile(filepath.Join(r.drops, "3", "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`), 0o644))
	r.report("3")
	if got := r.reason(); !strings.Contains(got, "model.sig: oci-layout: SHA-256 is ") {
		t.Errorf("quarantined for %q", got)
	}
	r.pack("4", 4, 2, atOnce)
	full := filepath.Join(r.drops, "4", "notes")
	must(t, os.WriteFile(full, []byte("notes"), 0o644))
	bundled(r, "4")
	must(t, os.Remove(full))
	r.report("4")
	if got := r.reason(); !strings.Contains(got, "model.sig: notes: ") || !strings.Contains(got, "no such file") {
		t.Errorf("quarantined for %q", got)
	}
	r.pack("5", 5, 2, atOnce)
	name := filepath.Join(r.drops, "5", "v5.qd")
	b, err := os.ReadFile(name)
	must(t, err)
	must(t, os.Truncate(name, 1)) // other bytes than those that come in are signed
	bundled(r, "5")
	must(t, os.WriteFile(name, b, 0o644))
	r.report("5")
	if got := r.reason(); !strings.Contains(got, "model.sig: v5.qd: SHA-256 is ") {
		t.Errorf("quarantined for %q", got)
	}
	r.serves(2)
}

// A patch goes through an image layout and a bundle as a delta does: nothing of it is
// decompressed before both are checked.
func TestSignedPatchInAnImageLayout(t *testing.T) {
	s := newSigner(t)
	p := newPatches(t, "apply", func(o *Options) { o.Trust = []*modelsign.Key{s.key} })
	defer p.close()
	p.shape = tiny
	p.layout("1", 1, 0, "", nil)
	s.sign(t, filepath.Join(p.drops, "1"))
	p.report("1")
	p.await(EventActive, 1)
	old, next := tiny.file(1), tiny.file(2)
	plain := p.packPatch(2, 1, old, next, zst(t, old, next), false, atOnce)
	for i, harm := range []func(dir string){
		func(dir string) {
			b, err := os.ReadFile(filepath.Join(dir, modelsign.FileName))
			must(t, err)
			s.sign(t, dir)
			must(t, os.WriteFile(filepath.Join(dir, modelsign.FileName), b[:len(b)-9], 0o644))
		},
		func(string) {},
	} {
		name := fmt.Sprint("2-", i)
		p.wrap(name, filepath.Join(p.drops, plain), "1")
		dir := filepath.Join(p.drops, name)
		s.sign(t, dir)
		harm(dir)
		p.report(name)
		if i == 0 {
			if got := p.reason(); !strings.Contains(got, "model.sig: unexpected end of JSON input") || len(p.applied()) > 0 {
				t.Errorf("quarantined for %q after %d children", got, len(p.applied()))
			}
		}
	}
	p.await(EventActive, 2)
	p.serves(2)
	if n := len(p.applied()); n != 1 {
		t.Errorf("%d children, want 1", n)
	}
}

// With keys of both kinds either signature will do, and both reasons are told.
func TestEitherSignatureWillDo(t *testing.T) {
	s := newSigner(t)
	key, err := delta.GenerateKey()
	must(t, err)
	r := newRig(t, func(o *Options) { o.Keys, o.Trust = []*delta.PublicKey{key.Public()}, []*modelsign.Key{s.key} })
	r.shape = tiny
	r.pack("1", 1, 0, func(p *delta.Pack) { p.Key = key })
	r.report("1")
	r.await(EventActive, 1)
	r.pack("2", 2, 1, atOnce)
	s.sign(t, filepath.Join(r.drops, "2"))
	r.report("2")
	r.await(EventActive, 2)
	r.pack("3", 3, 2, atOnce)
	r.report("3")
	if got := r.reason(); !strings.Contains(got, "signature refused: no signature: sign the drop with quadnine model pack --key") || !strings.Contains(got, "model.sig: no signature: it is missing") {
		t.Errorf("quarantined for %q", got)
	}
	r.close()
	r.opts.Trust = nil
	r.open()
	defer r.close()
	s.sign(t, filepath.Join(r.drops, "3"))
	r.report("3")
	if got := r.reason(); !strings.Contains(got, "(model.sig is not looked at: no key for it is trusted here)") {
		t.Errorf("quarantined for %q", got)
	}
}

// A version that was not decided when the process ended is held against the keys
// that are trusted now.
func TestBundleAfterARestart(t *testing.T) {
	s := newSigner(t)
	r := trusting(t, Copy, s.key)
	for n := uint64(1); n <= 2; n++ {
		name := strconv.FormatUint(n, 10)
		r.pack(name, n, n-1, nil)
		s.sign(t, filepath.Join(r.drops, name))
		r.report(name)
	}
	r.await(EventCanary, 2)
	r.close()
	r.open()
	r.await(EventCanary, 2) // from the store: its drop was not reported
	r.close()
	bundle := ""
	of1, err := os.ReadFile(filepath.Join(r.drops, "1", modelsign.FileName))
	must(t, err)
	for name, c := range map[string]struct {
		harm func()
		want string
	}{
		"another key": {func() { r.opts.Trust = []*modelsign.Key{newSigner(t).key} }, "model.sig: verificationMaterial.publicKey.hint: unknown key"},
		"another's":   {func() { must(t, os.WriteFile(bundle, of1, 0o644)) }, "model.sig: is another manifest's"},
		"only the other kind": {func() {
			key, err := delta.GenerateKey()
			must(t, err)
			r.opts.Trust, r.opts.Keys = nil, []*delta.PublicKey{key.Public()}
		}, "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.opts
			store := filepath.Join(t.TempDir(), "store")
			must(t, os.CopyFS(store, os.DirFS(r.opts.Store)))
			r.opts.Store, bundle = store, filepath.Join(store, "models", "score", "2", modelsign.FileName)
			c.harm()
			r.open()
			if ev := r.await(EventLost, 2); !strings.Contains(ev.Reason, c.want) {
				t.Errorf("lost for %q, want %q", ev.Reason, c.want)
			}
			r.serves(1) // it was taken before: a start must serve
			r.close()
			r.opts = before
		})
	}
}
