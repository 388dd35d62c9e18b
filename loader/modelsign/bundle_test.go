package modelsign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// read returns a file of testdata, which gen.py made with OpenSSF's own signer.
func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	must(tb, err)
	return b
}

func trusted(tb testing.TB) []*Key {
	tb.Helper()
	k, err := ParseKey(read(tb, "p256.pub"))
	must(tb, err)
	return []*Key{k}
}

// What OpenSSF's signer wrote is read: every file, with its digest.
func TestBundleOfTheRealSigner(t *testing.T) {
	s, err := Verify(read(t, "good.sig"), trusted(t))
	must(t, err)
	var want []File
	for _, name := range []string{"a.txt", "sub/b.txt"} {
		want = append(want, File{name, hex.EncodeToString(sum(read(t, "files/"+name)))})
	}
	if !slices.Equal(s.Files, want) {
		t.Errorf("%v, want %v", s.Files, want)
	}
	if got, ok := s.Digest("sub/b.txt"); !ok || got != want[1].SHA256 {
		t.Errorf("%s, %t", got, ok)
	}
	if _, ok := s.Digest("c"); ok {
		t.Error("a digest of nothing")
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// What the real signer can write and is not taken is refused for its reason.
func TestBundlesThatAreNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		is   error
		want string
	}{
		"blake2.sig":      {ErrUnsupported, `dsseEnvelope.payload: predicate.serialization.hash_type: is "blake2b", want "sha256"`},
		"blake3.sig":      {ErrUnsupported, `dsseEnvelope.payload: predicate.serialization.hash_type: is "blake3", want "sha256"`},
		"shards.sig":      {ErrUnsupported, `dsseEnvelope.payload: predicate.serialization.method: is "shards", want "files"`},
		"certificate.sig": {ErrUnsupported, "verificationMaterial.x509CertificateChain: is signed by a certificate; only keys are trusted here"},
		"p384.sig":        {ErrUnknownKey, "verificationMaterial.publicKey.hint: unknown key"},
	} {
		_, err := Verify(read(t, name), trusted(t))
		if !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// signed makes a bundle by a key of the test's own around a statement.
func signed(tb testing.TB, statement string, change func(b map[string]any)) (data []byte, keys []*Key) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	e := envelope{Payload: []byte(statement), Type: payloadType}
	sig, err := ecdsa.SignASN1(rand.Reader, private, sum(e.pae()))
	must(tb, err)
	b := map[string]any{
		"mediaType":            bundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": mine}, "tlogEntries": []any{}},
		"dsseEnvelope": map[string]any{
			"payload": base64.StdEncoding.EncodeToString(e.Payload), "payloadType": payloadType,
			"signatures": []any{map[string]any{"sig": base64.StdEncoding.EncodeToString(sig), "keyid": ""}},
		},
	}
	if change != nil {
		change(b)
	}
	data, err = json.Marshal(b)
	must(tb, err)
	return data, []*Key{{ID: mine, key: &private.PublicKey}}
}

var mine = strings.Repeat("5e", 32) // id of the key that tests make

const one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed" // of "one"

// statement is a statement about one file.
func statement() string {
	digest, _ := hex.DecodeString(one)
	return fmt.Sprintf(`{"_type": %q, "subject": [{"name": "m", "digest": {"sha256": "%x"}}], "predicateType": %q, "predicate": {
  "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": []},
  "resources": [{"name": "a.txt", "algorithm": "sha256", "digest": %q}]}}`, statementType, sum(digest), predicateType, one)
}

// Every field that matters is checked, and named.
func TestFieldsOfABundle(t *testing.T) {
	data, keys := signed(t, statement(), nil)
	_, err := Verify(data, keys)
	must(t, err)
	text := func(old, next string) string {
		s := strings.Replace(statement(), old, next, 1)
		if s == statement() {
			t.Fatalf("%q is not there", old)
		}
		return s
	}
	in := func(of, name string, v any) func(b map[string]any) {
		return func(b map[string]any) {
			at := b
			if of != "" {
				at = b[of].(map[string]any)
			}
			if at[name] = v; v == nil {
				delete(at, name)
			}
		}
	}
	many := `[{"name": "a.txt", "algorithm": "sha256", "digest": "` + one + `"}` + strings.Repeat(`, {}`, maxResources) + `]`
	for _, c := range []struct {
		statement string
		change    func(b map[string]any)
		want      string
	}{
		{statement(), in("", "mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"), `mediaType: is "application/vnd.dev.sigstore.bundle+json;version=0.2"`},
		{statement(), in("verificationMaterial", "certificate", map[string]any{"rawBytes": ""}), "verificationMaterial.certificate: is signed by a certificate"},
		{statement(), in("verificationMaterial", "publicKey", nil), "verificationMaterial.publicKey: is missing"},
		{statement(), in("verificationMaterial", "publicKey", map[string]any{}), `verificationMaterial.publicKey.hint: unknown key ""`},
		{statement(), in("", "messageSignature", map[string]any{}), "messageSignature: signs one file"},
		{statement(), in("", "dsseEnvelope", nil), "dsseEnvelope: is missing"},
		{statement(), in("dsseEnvelope", "payloadType", "text/plain"), `dsseEnvelope.payloadType: is "text/plain"`},
		{statement(), in("dsseEnvelope", "signatures", []any{}), "dsseEnvelope.signatures: has 0, want 1"},
		{statement(), in("dsseEnvelope", "payload", ""), "dsseEnvelope.signatures[0].sig: bad signature: key 5e5e5e5e5e5e… did not sign"},
		{statement(), in("dsseEnvelope", "payload", 1), "json: cannot unmarshal number"},
		{"x", nil, "dsseEnvelope.payload: invalid character"},
		{text("Statement/v1", "Statement/v2"), nil, `_type: is "https://in-toto.io/Statement/v2"`},
		{text("signature/v1.0", "Digests/v0.1"), nil, `predicateType: is "https://model_signing/Digests/v0.1"`},
		{text(`"subject": [`, `"subject": [{}, `), nil, "subject: has 2, want 1"},
		{text(one, strings.Repeat("0", 64)), nil, "subject[0].digest.sha256: is "},
		{text(`{"sha256": "`, `{"sha512": "`), nil, `subject[0].digest.sha256: is ""`},
		{text(`"a.txt"`, `"../a.txt"`), nil, `predicate.resources[0].name: "../a.txt": want a plain relative path`},
		{text(`"a.txt"`, `"."`), nil, `predicate.resources[0].name: ".": want a plain relative path`},
		{text(`"algorithm": "sha256"`, `"algorithm": "sha256-sharded-2"`), nil, `predicate.resources[0].algorithm: is "sha256-sharded-2"`},
		{text(one, strings.ToUpper(one)), nil, "predicate.resources[0].digest: "},
		{text(`"resources": [`, `"resources": [{"name": "a.txt", "algorithm": "sha256", "digest": "`+one+`"}, `), nil, `predicate.resources[1].name: "a.txt" is there twice`},
		{text(`"resources": [`, `"resources": [], "x": [`), nil, "predicate.resources: is empty"},
		{text(`"resources": [`, `"resources": `+many+`, "x": [`), nil, "predicate.resources: has 4097, at most 4096"},
	} {
		data, keys := signed(t, c.statement, c.change)
		if _, err := Verify(data, keys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if _, err := Verify(make([]byte, MaxSize+1), nil); err == nil || !strings.Contains(err.Error(), "at most 1048576 are read") {
		t.Error(err)
	}
}

// Only the public half of a P-256 key is a key.
func TestParseKey(t *testing.T) {
	good := string(read(t, "p256.pub"))
	if k, err := ParseKey([]byte(strings.ReplaceAll(good, "\n", "\r\n"))); err != nil || k.ID != hex.EncodeToString(sum([]byte(good))) {
		t.Errorf("%+v, %v: want the id of the text with plain line breaks", k, err)
	}
	for text, want := range map[string]string{
		"x": "is no PEM file", good + good: "holds a second block", strings.ReplaceAll(good, "PUBLIC", "PRIVATE"): "holds a PRIVATE KEY",
		string(read(t, "p384.pub")): "holds a key of another kind", strings.Replace(good, "MF", "AA", 1): "asn1",
	} {
		if _, err := ParseKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzBundle signs whatever statement it is given, so that what is behind the
// signature is reached, too; of what is taken every file has a name and a digest.
func FuzzBundle(f *testing.F) {
	keys := trusted(f)
	f.Add(read(f, "good.sig"), []byte(statement()))
	f.Add(read(f, "shards.sig"), []byte(strings.Replace(statement(), "files", "shards", 1)))
	f.Add(read(f, "certificate.sig"), []byte(`{"predicate": {"resources": [{"name": ""}]}}`))
	f.Fuzz(func(t *testing.T, data, inner []byte) {
		for _, try := range []func() (*Statement, error){
			func() (*Statement, error) { return Verify(data, keys) },
			func() (*Statement, error) { return parseStatement(inner) },
		} {
			s, err := try()
			if err != nil {
				if s != nil {
					t.Errorf("%v and %v", s, err)
				}
				continue
			}
			if len(s.Files) == 0 || len(s.Files) != len(s.digests) {
				t.Errorf("%+v", s)
			}
			for _, file := range s.Files {
				if got, ok := s.Digest(file.Name); !ok || got != file.SHA256 || len(got) != 64 || !filepath.IsLocal(file.Name) {
					t.Errorf("%+v is found as %q", file, got)
				}
			}
		}
	})
}
