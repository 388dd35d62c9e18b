package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, _ = a.sign("authority", true)
	return a
}

func (a *authority) sign(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, by := c, key
	if !ca {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key, der
}

// write writes a certificate and its key in place of those in dir.
func (a *authority) write(dir, name string, at time.Time) TLSFiles {
	a.t.Helper()
	_, key, der := a.sign(name, false)
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	f := TLSFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), ClientCA: filepath.Join(dir, "ca.crt")}
	for path, block := range map[string]*pem.Block{
		f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: k}, f.ClientCA: {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			a.t.Fatal(err)
		}
	}
	return f
}

// shake shakes hands with a server of c and returns the name it shows.
func shake(t *testing.T, c, as *tls.Config) (string, error) {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() {
		err := tls.Server(far, c).Handshake()
		far.Close()
		served <- err
	}()
	conn := tls.Client(near, as)
	err := conn.Handshake()
	if err == nil {
		// With TLS 1.3 a client learns only by reading that it is refused.
		_, err = io.Copy(io.Discard, conn)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = nil // the server has closed without a word
		}
	}
	near.Close()
	if err := errors.Join(err, <-served); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestTLS(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	files := a.write(dir, "one", time.Now().Add(-time.Hour))
	c, err := files.Config()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, key, der := a.sign("node", false)
	node := &tls.Config{RootCAs: roots, ServerName: "one", MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if got, err := shake(t, c, node); err != nil || got != "one" {
		t.Fatal(got, err)
	}
	stranger := node.Clone()
	stranger.Certificates = nil
	if _, err := shake(t, c, stranger); err == nil {
		t.Error("a node without a certificate was let in")
	}
	a.write(dir, "two", time.Now())
	node.ServerName = "two"
	if got, err := shake(t, c, node); err != nil || got != "two" {
		t.Errorf("after the files changed: %s, %v", got, err)
	}
	// While they are not valid, those before hold.
	if err := os.WriteFile(files.Key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := shake(t, c, node); err != nil || got != "two" {
		t.Errorf("with a broken key: %s, %v", got, err)
	}
	for _, f := range []TLSFiles{{Cert: "x"}, {Cert: files.Cert, Key: files.Key}, {Cert: files.Cert, Key: files.Cert, ClientCA: files.Key}} {
		if _, err := f.Config(); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
	if c, err := (TLSFiles{}).Config(); c != nil || err != nil {
		t.Errorf("without files: %v, %v", c, err)
	}
}
