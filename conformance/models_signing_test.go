package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// signingKey writes a P-256 key pair as PEM files and returns their paths.
func signingKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	private = write("sign.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
	return private, write("sign.pub", "PUBLIC KEY", der, err)
}

// modelSign has OpenSSF's model-signing sign a directory.
func modelSign(t *testing.T, private, dir string) {
	t.Helper()
	p := tool(t, "model-signing", "sign", "key", "--private_key", private, "--signature", filepath.Join(dir, "model.sig"), dir)
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("model-signing: %v\n%s", err, p.Output())
	}
}

// TestModelsSignedByOpenSSF has the real signer sign a version and a delta on it;
// both are taken. One byte changed after that, a key that is not trusted, and no
// signature are refused.
func TestModelsSignedByOpenSSF(t *testing.T) {
	m := withModels(t, 5, 0)
	private, public := signingKey(t)
	other, _ := signingKey(t)
	m.Kill()
	m.sidecar = startSidecar(t, nil, "--upstream", "http://"+m.upstream, "--models", m.watched, "--model-store", m.store, "--model-trust", public)
	m.pack(t, 1)
	for n := 2; n <= 5; n++ {
		m.pack(t, n, "--canary-weight", "0", "--full")
	}
	becomes := func(n int) {
		t.Helper()
		ctx := deadline(t, within)
		if !until(ctx, func() bool { return m.models(ctx).state(n) == "active" }) {
			t.Fatalf("version %d is not active:\n%s", n, mustGet(t, client(t, false), "http://"+m.admin+"/models"))
		}
	}
	refused := func(n int, want string) {
		t.Helper()
		m.drop(t, n)
		ctx := deadline(t, within)
		var page string
		if !until(ctx, func() bool {
			page = string(mustGet(t, client(t, false), "http://"+m.admin+"/models"))
			return strings.Contains(page, want)
		}) {
			t.Fatalf("version %d is not refused for %q:\n%s", n, want, page)
		}
		if s := m.models(ctx).state(n); s != "" {
			t.Errorf("version %d is %s", n, s)
		}
	}
	for n := 1; n <= 2; n++ {
		modelSign(t, private, m.packed(n))
		m.drop(t, n)
		becomes(n)
	}
	full := filepath.Join(m.packed(3), "model.safetensors") // which is not even used: there is a delta
	modelSign(t, private, m.packed(3))
	b := read(t, full)
	b[len(b)-1] ^= 1
	if err := os.WriteFile(full, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(3, "signature refused: model.sig: model.safetensors: SHA-256 is ")
	modelSign(t, other, m.packed(4))
	refused(4, "unknown key")
	refused(5, "model.sig: no signature")
}
