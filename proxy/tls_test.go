package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// pem are data that stand in the configuration.
func inline(b []byte) snapshot.PEM { return snapshot.PEM{Bytes: b} }

// certificate is p in the configuration.
func certificate(p testkit.Pair) snapshot.Certificate {
	return snapshot.Certificate{Chain: inline(p.Cert), Key: inline(p.Key)}
}

// uri matches one subject alternative name.
func uri(name string) snapshot.NameMatcher {
	return snapshot.NameMatcher{Kind: snapshot.NameURI, Text: name, Match: func(n string, _ bool) bool { return n == name }}
}

// secured has a rig's listener take TLS.
func secured(t *snapshot.TLS, more ...func(*snapshot.Listener)) func(*Options) {
	return func(o *Options) {
		l := o.Snapshot.Listeners[0]
		l.TLS = t
		for _, f := range more {
			f(l)
		}
	}
}

// tlsClient is Go's own client over TLS, on connections of its own.
func (r *rig) tlsClient(config *tls.Config, h2 bool) *http.Client {
	ps := new(http.Protocols)
	ps.SetHTTP1(!h2)
	ps.SetHTTP2(h2)
	tr := &http.Transport{
		Protocols: ps, TLSClientConfig: config, DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return r.net.Dial(ctx, address) },
	}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (r *rig) getTLS(c *http.Client, path string) (reply, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "https://sidecar:80"+path, nil)
	if err != nil {
		return reply{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp, string(b), err}, nil
}

func TestTLSIsServed(t *testing.T) {
	for name, h2 := range map[string]bool{"h2": true, "http/1.1": false} {
		for version, number := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			t.Run(name+" over TLS "+version, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ca := testkit.NewCA(t, "test")
					r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
					r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
						b, _ := io.ReadAll(req.Body)
						_, _ = io.WriteString(w, strings.Repeat(req.URL.Path+string(b), 10_000))
					})
					c := r.tlsClient(&tls.Config{RootCAs: ca.Pool(), MinVersion: number, MaxVersion: number}, h2)
					for range 3 {
						got, err := r.getTLS(c, "/hello")
						if err != nil {
							t.Fatal(err)
						}
						got.want(t, 200, strings.Repeat("/hello", 10_000))
						if got.ProtoMajor != map[bool]int{true: 2, false: 1}[h2] || got.TLS.Version != number {
							t.Errorf("%s over %x", got.Proto, got.TLS.Version)
						}
					}
					r.settled()
					if n := r.reg.Total(telemetry.HandshakeFull); n != 1 {
						t.Errorf("%d handshakes counted, want 1", n)
					}
				})
			})
		}
	}
}

// TestTLSCallersAreVerified: mutual TLS with SPIFFE IDs.
func TestTLSCallersAreVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := testkit.NewCA(t, "test"), testkit.NewCA(t, "other")
		rules := &snapshot.TLS{
			Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}, RequireClient: true,
			Validation: &snapshot.Validation{Roots: inline(ca.PEM), Depth: -1, Names: []snapshot.NameMatcher{uri("spiffe://td/ns/a/sa/b")}},
		}
		r := newRig(t, snapshot.Source{}, secured(rules))
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })
		for name, tc := range map[string]struct {
			cert []tls.Certificate
			ok   bool
		}{
			"the right one":        {[]tls.Certificate{ca.Issue("spiffe://td/ns/a/sa/b").TLS(t)}, true},
			"another name":         {[]tls.Certificate{ca.Issue("spiffe://td/ns/a/sa/c").TLS(t)}, false},
			"another authority":    {[]tls.Certificate{other.Issue("spiffe://td/ns/a/sa/b").TLS(t)}, false},
			"none":                 {nil, false},
			"one that has ended":   {[]tls.Certificate{ca.IssueUntil(time.Now().Add(-time.Hour), "spiffe://td/ns/a/sa/b").TLS(t)}, false},
			"a DNS name that fits": {[]tls.Certificate{ca.Issue("spiffe.td").TLS(t)}, false},
		} {
			config := &tls.Config{RootCAs: ca.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if tc.cert == nil {
					return new(tls.Certificate), nil
				}
				return &tc.cert[0], nil
			}}
			got, err := r.getTLS(r.tlsClient(config, true), "/")
			if ok := err == nil && got.StatusCode == http.StatusOK; ok != tc.ok {
				t.Errorf("a caller with %s: %v, want it served: %v", name, err, tc.ok)
			}
		}
		synctest.Wait()
		if n := r.reg.Total(telemetry.HandshakeFailed); n != 5 {
			t.Errorf("%d handshakes failed, want 5", n)
		}
		r.settled()
	})
}

// TestPlainTextToATLSPort is closed and counted, and so is TLS to a plain one.
func TestPlainTextToATLSPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
		for _, text := range []string{"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x00\x00\x00"} {
			if got := r.raw(text); got != "" {
				t.Errorf("%q was answered %q", text, got)
			}
		}
		if n := r.reg.Total(telemetry.RefusedPlainText); n != 3 {
			t.Errorf("%d connections counted, want 3", n)
		}
		for _, garbage := range []string{"\x16\x03\x01\x00\x02\xff\xff", "\x16\x03\x01\x40\x00" + strings.Repeat("\x01", 0x4000), "\x16"} {
			r.raw(garbage)
		}
		synctest.Wait()
		if n := r.server.overload.open.Load(); n != 0 {
			t.Errorf("%d connections are still counted as open", n)
		}
	})
}

// raw sends text to the sidecar and returns what was answered when it closes.
func (r *rig) raw(text string) string {
	r.t.Helper()
	nc, err := r.net.Dial(r.t.Context(), "sidecar:80")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	go func() { _, _ = io.WriteString(nc, text) }()
	b, _ := io.ReadAll(nc)
	return string(b)
}

// TestSlowHandshakesAreCut: a caller that says nothing, or only half, has as long
// as the listener says.
func TestSlowHandshakesAreCut(t *testing.T) {
	for name, limit := range map[string]time.Duration{"by default": handshakeTime, "as configured": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := testkit.NewCA(t, "test")
				r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}},
					func(l *snapshot.Listener) {
						if limit != handshakeTime {
							l.Handshake = limit
						}
					}))
				start := time.Now()
				for _, text := range []string{"", "\x16\x03\x01\x02"} {
					nc, err := r.net.Dial(t.Context(), "sidecar:80")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = nc.Close() })
					_, _ = io.WriteString(nc, text)
				}
				time.Sleep(limit - time.Millisecond)
				synctest.Wait()
				if n := r.reg.Total(telemetry.HandshakeTimedOut); n != 0 {
					t.Errorf("%d handshakes cut after %v", n, time.Since(start))
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
				if n := r.reg.Total(telemetry.HandshakeTimedOut); n != 2 {
					t.Errorf("%d handshakes cut after %v, want 2", n, time.Since(start))
				}
			})
		})
	}
}

// TestHalfOpenHandshakes: more callers than may be in their handshake hold nobody
// up, for the oldest gives way.
func TestHalfOpenHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })
		const more = 10
		for range maxHandshakes + more {
			nc, err := r.net.Dial(t.Context(), "sidecar:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nc.Close() })
		}
		got, err := r.getTLS(r.tlsClient(&tls.Config{RootCAs: ca.Pool()}, true), "/")
		if err != nil {
			t.Fatal(err)
		}
		got.want(t, 200, "hi")
		synctest.Wait()
		if n := r.reg.Total(telemetry.HandshakeGaveWay); n != more+1 {
			t.Errorf("%d gave way, want %d", n, more+1)
		}
	})
}

// TestResumption: a session is resumed, and its caller verified again.
func TestResumption(t *testing.T) {
	for version, number := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		for _, never := range []bool{false, true} {
			t.Run(version, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ca := testkit.NewCA(t, "test")
					rules := &snapshot.TLS{
						Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}, RequireClient: true, NoTickets: never,
						Validation: &snapshot.Validation{Roots: inline(ca.PEM), Depth: -1},
					}
					r := newRig(t, snapshot.Source{}, secured(rules))
					r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })
					config := &tls.Config{
						RootCAs: ca.Pool(), MaxVersion: number, ClientSessionCache: tls.NewLRUClientSessionCache(1),
						Certificates: []tls.Certificate{ca.Issue("a").TLS(t)},
					}
					for range 3 {
						got, err := r.getTLS(r.tlsClient(config.Clone(), false), "/")
						if err != nil {
							t.Fatal(err)
						}
						got.want(t, 200, "hi")
					}
					want := uint64(2)
					if never {
						want = 0
					}
					synctest.Wait()
					if n := r.reg.Total(telemetry.HandshakeResumed); n != want {
						t.Errorf("%d sessions resumed, want %d", n, want)
					}
					// Those who are trusted have changed: what was resumed is refused.
					other := testkit.NewCA(t, "other")
					snap := *r.server.Config()
					l := *snap.Listeners[0]
					changed := *rules
					changed.Validation = &snapshot.Validation{Roots: inline(other.PEM), Depth: -1}
					l.TLS = &changed
					snap.Listeners = []*snapshot.Listener{&l}
					if err := r.server.Apply(&snap); err != nil {
						t.Fatal(err)
					}
					if _, err := r.getTLS(r.tlsClient(config.Clone(), false), "/"); err == nil {
						t.Error("a caller whose authority is no longer trusted was served")
					}
				})
			})
		}
	}
}

// TestALPN: what is negotiated chooses the protocol, and without ALPN the first
// bytes do.
func TestALPN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, "hi") })
		for _, tc := range []struct {
			offered []string
			chosen  string
			begins  string // what is answered to a request of HTTP/1.1
		}{
			{nil, "", "HTTP/1.1 200"},
			{[]string{"http/1.1"}, "http/1.1", "HTTP/1.1 200"},
			{[]string{"http/1.1", "h2"}, "h2", "\x00\x00"},
			{[]string{"foo"}, "", "HTTP/1.1 200"}, // as Envoy
			{[]string{"foo", "http/1.1"}, "http/1.1", "HTTP/1.1 200"},
		} {
			nc, err := r.net.Dial(t.Context(), "sidecar:80")
			if err != nil {
				t.Fatal(err)
			}
			c := tls.Client(nc, &tls.Config{RootCAs: ca.Pool(), ServerName: "sidecar", NextProtos: tc.offered})
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
			b := make([]byte, len(tc.begins))
			_, err = io.ReadFull(bufio.NewReader(c), b)
			if got := c.ConnectionState().NegotiatedProtocol; got != tc.chosen || string(b) != tc.begins || err != nil {
				t.Errorf("offered %q: %q was chosen and %q answered, %v; want %q and %q", tc.offered, got, b, err, tc.chosen, tc.begins)
			}
			_ = nc.Close()
		}
	})
}

// TestNothingIsServedWithoutACertificate: what cannot be read fails handshakes, not
// the listener, and says so.
func TestNothingIsServedWithoutACertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Missing: "secret \"a\" has not come"}))
		if _, err := r.getTLS(r.tlsClient(&tls.Config{RootCAs: ca.Pool()}, true), "/"); err == nil {
			t.Error("a handshake succeeded")
		}
		synctest.Wait()
		if n := r.reg.Total(telemetry.HandshakeFailed); n != 1 {
			t.Errorf("%d handshakes failed, want 1", n)
		}
	})
}

// TestDrainWaitsForHandshakes: who is in the middle of one when the process is to
// end gets through, and is asked to leave; who says nothing has a second.
func TestDrainWaitsForHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })
		dial := func() net.Conn {
			nc, err := r.net.Dial(t.Context(), "sidecar:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nc.Close() })
			return nc
		}
		silent, late := dial(), dial()
		synctest.Wait()
		begun := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		time.Sleep(lastHandshake / 2)
		c := tls.Client(late, &tls.Config{RootCAs: ca.Pool(), ServerName: "sidecar"})
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
			t.Fatalf("%v, %v; want an answer that asks to leave", resp, err)
		}
		_ = resp.Body.Close()
		_ = late.Close()
		if err := <-drained; err != nil || time.Since(begun) != lastHandshake {
			t.Errorf("drained after %v, %v; want it as soon as the silent caller's second is over", time.Since(begun), err)
		}
		_ = silent.Close()
	})
}

// TestWhoBeginsLateHasLittleTime: a handshake that begins when the process is to end
// has as little time as those that were under way.
func TestWhoBeginsLateHasLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}}))
		synctest.Wait() // it serves
		r.server.handshakes.hurry()
		near, far := net.Pipe()
		defer func() { _, _ = near.Close(), far.Close() }()
		if !r.server.admit(far) {
			t.Fatal("not let in")
		}
		for k := range r.server.sockets { // one
			r.server.welcome(k, far)
		}
		time.Sleep(lastHandshake)
		synctest.Wait()
		if n := r.reg.Total(telemetry.HandshakeTimedOut); n != 1 {
			t.Errorf("%d handshakes cut after %v, want 1", n, lastHandshake)
		}
	})
}
