package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// secretApp is an app behind TLS of Go's own server, which wants to see the
// sidecar's certificate.
func secretApp(t *testing.T, ca *testkit.CA, h2 bool, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelInfo)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1", "spiffe://td/app").TLS(t)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	s.EnableHTTP2 = h2
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// caller is Go's own client over TLS, on connections of its own.
func caller(t *testing.T, config *tls.Config, h2 bool) *http.Client {
	t.Helper()
	ps := new(http.Protocols)
	ps.SetHTTP1(!h2)
	ps.SetHTTP2(h2)
	tr := &http.Transport{TLSClientConfig: config, Protocols: ps}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// seen is an answer, and whose it is.
type seen struct {
	status int
	body   string
	shown  *x509.Certificate
}

func fetch(ctx context.Context, c *http.Client, url string) (seen, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return seen{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return seen{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return seen{resp.StatusCode, string(b), resp.TLS.PeerCertificates[0]}, err
}

// secrets are the files of a sidecar with TLS on both sides.
type secrets struct {
	dir                  string
	ca, cert, key        string
	upstreamCert, upsKey string
}

func newSecrets(t *testing.T, ca *testkit.CA) *secrets {
	t.Helper()
	s := &secrets{dir: t.TempDir()}
	s.ca = filepath.Join(s.dir, "ca.pem")
	testkit.Replace(t, s.ca, ca.PEM)
	s.cert, s.key = ca.Issue("127.0.0.1").Store(t, s.dir)
	s.upstreamCert, s.upsKey = ca.Issue("spiffe://td/sidecar/0").Store(t, t.TempDir())
	return s
}

func (s *secrets) flags() snapshot.SourceTLS {
	return snapshot.SourceTLS{
		Cert: s.cert, Key: s.key, ClientCA: s.ca, ClientNames: []string{"spiffe://td/ns/shop/*", "gateway.test"},
		UpstreamCA: s.ca, UpstreamCert: s.upstreamCert, UpstreamKey: s.upsKey, UpstreamNames: []string{"spiffe://td/app"},
	}
}

// TestTLSOnBothSides: callers are known by their SPIFFE ID, and so is the app.
func TestTLSOnBothSides(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	for _, h2 := range []bool{true, false} {
		url := secretApp(t, ca, h2, func(w http.ResponseWriter, req *http.Request) {
			_, _ = fmt.Fprintf(w, "%s, HTTP/%d", req.TLS.PeerCertificates[0].URIs[0], req.ProtoMajor)
		})
		s := newStand(t, standConfig{source: snapshot.Source{Upstreams: []string{url}, TLS: newSecrets(t, ca).flags()}})
		for _, tc := range []struct {
			name string
			ok   bool
		}{{"spiffe://td/ns/shop/sa/cart", true}, {"gateway.test", true}, {"spiffe://td/ns/other/sa/cart", false}, {"gateway.test.evil", false}} {
			config := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue(tc.name).TLS(t)}}
			for _, down := range []bool{true, false} {
				got, err := fetch(t.Context(), caller(t, config.Clone(), down), "https://"+s.side.Addr()+"/")
				want := "spiffe://td/sidecar/0, HTTP/1"
				if h2 {
					want = "spiffe://td/sidecar/0, HTTP/2"
				}
				if ok := err == nil && got.status == http.StatusOK && got.body == want; ok != tc.ok {
					t.Errorf("%s over HTTP/2 %v: %q, %v; want it served: %v", tc.name, down, got.body, err, tc.ok)
				}
			}
		}
		for !strings.Contains(s.admin("/stats/prometheus"), `quadnine_downstream_tls_handshakes_total{result="failed"} 4`) {
			if t.Context().Err() != nil { // a caller is refused before it is counted
				t.Fatal("/stats/prometheus does not count the refused callers")
			}
		}
		page := s.admin("/stats/prometheus")
		for _, line := range []string{`quadnine_downstream_tls_handshakes_total{result="full"} 4`, `quadnine_upstream_tls_handshakes_total{result="full"}`, "quadnine_tls_certificate_not_after_seconds{certificate="} {
			if !strings.Contains(page, line) {
				t.Errorf("/stats/prometheus lacks %s", line)
			}
		}
		if page := s.admin("/certs"); !strings.Contains(page, `"serial_number"`) || !strings.Contains(page, "spiffe://td/sidecar/0") {
			t.Errorf("/certs:\n%s", page)
		}
	}
}

// TestAnImpostorsAppIsRefused: the error tells why.
func TestAnImpostorsAppIsRefused(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	url := secretApp(t, ca, true, func(http.ResponseWriter, *http.Request) {})
	flags := newSecrets(t, ca).flags()
	flags.UpstreamNames = []string{"spiffe://td/another"}
	s := newStand(t, standConfig{source: snapshot.Source{Upstreams: []string{url}, TLS: flags}})
	config := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue("gateway.test").TLS(t)}}
	got, err := fetch(t.Context(), caller(t, config, true), "https://"+s.side.Addr()+"/")
	if err != nil || got.status != http.StatusServiceUnavailable {
		t.Fatalf("%d, %v; want 503", got.status, err)
	}
	if page := s.admin("/clusters?format=json"); !strings.Contains(page, "which no entry of match_typed_subject_alt_names matches") {
		t.Errorf("/clusters does not say why:\n%s", page)
	}
}

// TestRotationUnderLoad: certificates of both sides are replaced five times while
// 64 streams run and new connections come. Nothing fails, new connections see the
// new certificates, and those that are open live on.
func TestRotationUnderLoad(t *testing.T) {
	const streams, rotations = 64, 5
	ca := testkit.NewCA(t, "test")
	var sidecars sync.Map // IDs that the app has seen on requests for /fresh
	url := secretApp(t, ca, false, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/fresh" {
			sidecars.Store(req.TLS.PeerCertificates[0].URIs[0].String(), true)
			w.Header().Set("connection", "close")
			return
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		lines := bufio.NewScanner(req.Body)
		for lines.Scan() { // each is answered before the next one comes
			_, _ = fmt.Fprintln(w, lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	files := newSecrets(t, ca)
	flags := files.flags()
	flags.ClientCA, flags.ClientNames = "", nil
	s := newStand(t, standConfig{source: snapshot.Source{Upstreams: []string{url}, TLS: flags, Degrade: []string{}}})
	base := "https://" + s.side.Addr()
	config := &tls.Config{RootCAs: ca.Pool()}

	held := caller(t, config.Clone(), true)
	var failed atomic.Int64
	fail := func(format string, args ...any) {
		failed.Add(1)
		t.Errorf(format, args...)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range streams {
		begun := make(chan struct{}) // one by one: the machine may be slow
		running.Go(func() {
			pr, pw := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/echo", pr)
			if err != nil {
				close(begun)
				fail("stream %d: %v", i, err)
				return
			}
			resp, err := held.Do(req)
			if close(begun); err != nil {
				fail("stream %d: %v", i, err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			answers := bufio.NewReader(resp.Body)
			for n := 0; ; n++ {
				select {
				case <-stop:
					_ = pw.Close()
					if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
						fail("stream %d ended with %q, %v", i, rest, err)
					}
					return
				default:
				}
				line := fmt.Sprintf("stream %d, line %d", i, n)
				if _, err := fmt.Fprintln(pw, line); err != nil {
					fail("stream %d: %v", i, err)
					return
				}
				if got, err := answers.ReadString('\n'); err != nil || got != line+"\n" {
					fail("stream %d: %q, %v", i, got, err)
					return
				}
			}
		})
		<-begun
	}
	fresh := func() *x509.Certificate {
		c := caller(t, config.Clone(), true)
		got, err := fetch(t.Context(), c, base+"/fresh")
		if err != nil {
			fail("a new connection: %v", err)
			return nil
		}
		if got.status != http.StatusOK {
			fail("a new connection: %d", got.status)
		}
		c.CloseIdleConnections()
		return got.shown
	}
	running.Go(func() { // new connections all along
		for {
			select {
			case <-stop:
				return
			default:
				fresh()
			}
		}
	})
	for n := 1; n <= rotations; n++ {
		next := ca.Issue("127.0.0.1")
		next.Store(t, files.dir)
		ca.Issue(fmt.Sprintf("spiffe://td/sidecar/%d", n)).Store(t, filepath.Dir(files.upstreamCert))
		want := next.TLS(t).Leaf
		if got := fresh(); got == nil || got.SerialNumber.Cmp(want.SerialNumber) != 0 {
			t.Errorf("rotation %d: a new connection sees certificate %v, want %v", n, got.SerialNumber, want.SerialNumber)
		}
		shown := func() bool {
			_, ok := sidecars.Load(fmt.Sprintf("spiffe://td/sidecar/%d", n))
			return ok
		}
		for range 100 { // a connection that was dialed before may serve a request after
			if shown() {
				break
			}
			fresh()
		}
		if !shown() {
			t.Errorf("rotation %d: the app was not shown the new certificate", n)
		}
	}
	close(stop)
	running.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d failed, want none", n)
	}
}

// TestABrokenCertificateKeepsTheOldOne, and is told once.
func TestABrokenCertificateKeepsTheOldOne(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	files := newSecrets(t, ca)
	logged := new(syncBuffer)
	s := newStand(t, standConfig{logTo: logged, source: snapshot.Source{TLS: snapshot.SourceTLS{Cert: files.cert, Key: files.key}}})
	serial := func() string {
		t.Helper()
		c := caller(t, &tls.Config{RootCAs: ca.Pool()}, true)
		got, err := fetch(t.Context(), c, "https://"+s.side.Addr()+acmePV)
		if err != nil {
			t.Fatal(err)
		}
		return got.shown.SerialNumber.String()
	}
	first := serial()
	testkit.Replace(t, files.cert, ca.Issue("127.0.0.1").Cert) // without its key
	for range 3 {
		if got := serial(); got != first {
			t.Fatalf("certificate %s, want %s", got, first)
		}
	}
	if n := strings.Count(logged.String(), "does not belong to the certificate"); n != 1 {
		t.Errorf("told %d times, want once:\n%s", n, logged)
	}
	if page := s.admin("/stats/prometheus"); !strings.Contains(page, `quadnine_tls_certificates_read_total{result="failed"} 1`) {
		t.Error("/stats/prometheus does not count it")
	}
	next := ca.Issue("127.0.0.1")
	next.Store(t, files.dir)
	if got := serial(); got != next.TLS(t).Leaf.SerialNumber.String() {
		t.Errorf("certificate %s, want the new one", got)
	}
}

// TestTLSToAPlainPort is refused, and does no harm.
func TestTLSToAPlainPort(t *testing.T) {
	s := newStand(t, standConfig{})
	c := tls.Client(dial(t, s.side.Addr()), &tls.Config{InsecureSkipVerify: true})
	if err := c.HandshakeContext(t.Context()); err == nil {
		t.Error("a handshake succeeded on a port in plain text")
	}
	s.do(s.client(true), http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Log(err)
		}
	})
	return nc
}

// syncBuffer is what a log is written to while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
