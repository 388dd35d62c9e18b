package conformance

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// query is a path that the statistics service answers with 200.
const query = "/api/v2/metrics/query?tenant=acme&metric=uv"

// answer is what curl reports about one exchange.
type answer struct {
	exit    error  // nil when curl took the reply for whole
	status  string // "HTTP/2 200"
	headers string // header and trailer lines, as received
	body    []byte
}

// curl asks once, over HTTP/2 with prior knowledge or HTTP/1.1.
func curl(t *testing.T, h2 bool, args ...string) answer {
	t.Helper()
	dir := t.TempDir()
	head, body := filepath.Join(dir, "head"), filepath.Join(dir, "body")
	version := "--http1.1"
	if h2 {
		version = "--http2-prior-knowledge"
	}
	p := tool(t, "curl", append([]string{"-sS", version, "--max-time", "25", "-D", head, "-o", body, "-w", "HTTP/%{http_version} %{http_code}"}, args...)...)
	a := answer{exit: p.Wait(deadline(t, within))}
	a.status = p.Output()
	if i := strings.LastIndex(a.status, "HTTP/"); i >= 0 {
		a.status = a.status[i:]
	}
	h, _ := os.ReadFile(head) // absent when there was no reply: the tests look at what it says
	a.headers = string(h)
	a.body, _ = os.ReadFile(body) // absent when the body is empty
	return a
}

// ok returns the status line that a 200 has for curl.
func ok(h2 bool) string {
	if h2 {
		return "HTTP/2 200"
	}
	return "HTTP/1.1 200"
}

// want fails the test unless curl got a whole 200.
func (a answer) want(t *testing.T, h2 bool) {
	t.Helper()
	if a.exit != nil || a.status != ok(h2) {
		t.Fatalf("curl: %v, %q, want %q\n%s\n%.300s", a.exit, a.status, ok(h2), a.headers, a.body)
	}
}

func TestCurlGetsTheUpstreamsAnswer(t *testing.T) {
	s, upstream := behind(t)
	want := mustGet(t, http.DefaultClient, "http://"+upstream+query)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			a := curl(t, h2, s.url(query))
			a.want(t, h2)
			if !bytes.Equal(a.body, want) {
				t.Errorf("GET body %q, upstream says %q", a.body, want)
			}
			a = curl(t, h2, "-H", "Content-Type: application/json", "-d", `{"tenant":"acme","metric":"uv"}`, s.url("/api/v2/metrics/query"))
			a.want(t, h2)
			if !bytes.Equal(a.body, want) {
				t.Errorf("POST body %q, upstream says %q", a.body, want)
			}
			if a = curl(t, h2, "--head", s.url(query)); a.exit != nil || len(a.body) > 0 && !bytes.HasPrefix(a.body, []byte("HTTP/")) {
				t.Errorf("HEAD: %v, body %q", a.exit, a.body)
			}
		})
	}
}

func TestLargeBodyEchoesIntact(t *testing.T) {
	s, _ := behind(t)
	body := make([]byte, 10<<20)
	random := rand.NewChaCha8([32]byte{9})
	_, _ = random.Read(body) // never fails
	file := filepath.Join(t.TempDir(), "10M")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(body)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct{ name, header string }{
				{"expect 100-continue", "Expect: 100-continue"}, // RFC 9110 section 10.1.1
				{"no expectation", "Expect:"},
				{"chunked", "Transfer-Encoding: chunked"}, // over HTTP/2 curl leaves the length away instead
			} {
				t.Run(c.name, func(t *testing.T) {
					for range soak(1, 50) {
						a := curl(t, h2, "-H", c.header, "--data-binary", "@"+file, s.url("/api/v2/echo"))
						a.want(t, h2)
						if got := sha256.Sum256(a.body); got != want {
							t.Fatalf("%d bytes came back with digest %x, sent %d with %x", len(a.body), got[:4], len(body), want[:4])
						}
					}
				})
			}
		})
	}
}

// TestTrailersArrive asks for a reply without a length: curl ends an HTTP/2
// exchange at the announced length and never looks at trailers behind it.
func TestTrailersArrive(t *testing.T) {
	s, _ := behind(t)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			a := curl(t, h2, "-H", "TE: trailers", "-d", "four", s.url("/api/v2/echo?trailers=1&stream=1"))
			a.want(t, h2)
			if string(a.body) != "four" {
				t.Errorf("body %q, want %q", a.body, "four")
			}
			// curl writes trailers behind the header's empty line.
			_, trailers, _ := strings.Cut(a.headers, "\r\n\r\n")
			if !strings.Contains(strings.ToLower(trailers), "x-echo-bytes: 4") {
				t.Errorf("no trailer x-echo-bytes: 4 in\n%s", a.headers)
			}
		})
	}
}

func TestCutBodyNeverLooksWhole(t *testing.T) {
	upstream := addrs(t, 1)[0]
	startStats(t, upstream, []string{"acme"}, "--fault", "acme=partial")
	s := startSidecar(t, nil, "--upstream", "http://"+upstream)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{query, "/api/v2/echo?tenant=acme"} {
				args := []string{s.url(path)}
				if strings.Contains(path, "echo") {
					args = append(args, "-d", strings.Repeat("x", 100_000))
				}
				if a := curl(t, h2, args...); a.exit == nil && a.status == ok(h2) {
					t.Errorf("%s: the upstream sent half a body and curl took %d bytes for a whole 200", path, len(a.body))
				}
			}
		})
	}
}

func TestWebsocketIsRefusedClearly(t *testing.T) {
	s, _ := behind(t, "--upgrade", "none")
	a := curl(t, false, "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
		"-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", s.url("/"))
	if a.status != "HTTP/1.1 501" {
		t.Fatalf("upgrade answered %q (%v), want HTTP/1.1 501\n%s", a.status, a.exit, a.headers)
	}
	if len(a.body) == 0 {
		t.Error("a refusal without a word: want a body that says why")
	}
}
