package proxy

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/snapshot"
)

func TestPeerThatHangsAfterTheAppHungEndsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: time.Second, Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}})
		hang := func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
		r.app("app:80", hang)
		r.app("peer:80", hang)
		got, err := r.try(time.Minute, r.request(http.MethodGet, "/?tenant=a", nil))
		if err != nil {
			t.Fatal(err)
		}
		got.want(t, 504, "no response in time")
		r.settled()
		if n := r.failures("a"); n != 1 {
			t.Fatalf("%d failures count against the key, want the app's 1", n)
		}
	})
}

// A reply that was made before a route was known, or after the timer fired, has a
// timer too.
func TestReplyToAClosedWindowEnds(t *testing.T) {
	for name, c := range map[string]struct {
		method, path string
	}{"before the route": {"CONNECT", ""}, "after a time-out": {"GET", "/?tenant=a"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Idle: 10 * time.Second, Timeout: time.Second})
				r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
				w := r.caller(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				if c.method == "CONNECT" {
					w.headers(1, true, ":method", "CONNECT", ":authority", "x:1")
				} else {
					w.ask(1, true, c.method, c.path)
				}
				w.until("HEADERS 1")
				time.Sleep(10 * time.Minute)
				r.settled()
			})
		})
	}
}

func TestSlowUploadIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second})
		r.frameApp("app:80", func(w *wire) {
			w.until("HEADERS 1")
			for range 20 { // the caller hears of it only every half window
				time.Sleep(time.Second)
				w.do(func(fr *http2.Framer) error {
					_ = fr.WriteWindowUpdate(0, 10<<10)
					return fr.WriteWindowUpdate(1, 10<<10)
				})
			}
			w.until("DATA 1 end=true")
			w.headers(1, true, ":status", "204")
		})
		r.do(r.request(http.MethodPost, "/?tenant=a", bytes.NewReader(make([]byte, 250<<10)))).want(t, 204, "")
		r.settled()
	})
}

func TestQuietStreamLivesAsLongAsIdleAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second, Idle: time.Minute})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			buf := make([]byte, 1)
			for { // nothing is sent before the first message, not even a head
				if _, err := req.Body.Read(buf); err != nil {
					return
				}
				_, _ = w.Write(buf)
				w.(http.Flusher).Flush()
			}
		})
		body, write := io.Pipe()
		go func() {
			time.Sleep(50 * time.Second) // longer than the time to a complete request's head
			_, _ = write.Write([]byte("x"))
		}()
		resp, err := r.client.Do(r.request(http.MethodPost, "/?tenant=a", body, "Content-Type", "application/grpc"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		buf := make([]byte, 1)
		for range 10 * 60 { // ten hours
			time.Sleep(50 * time.Second)
			if _, err := resp.Body.Read(buf); err != nil {
				t.Fatal(err)
			}
			_, _ = write.Write([]byte("x"))
		}
		_, _ = resp.Body.Read(buf)
		begin := time.Now()
		if _, err := resp.Body.Read(buf); err == nil {
			t.Fatal("want an end without progress")
		}
		if d := time.Since(begin); d < 59*time.Second || d > 61*time.Second {
			t.Fatalf("ended %v after the last message, want a minute", d)
		}
		_ = resp.Body.Close()
		_ = write.Close()
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("a stream on which neither side speaks counts as %d failures", n)
		}
	})
}

func TestTimeRunsFromTheCompleteRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second, Idle: time.Hour})
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		body, write := io.Pipe()
		begin := time.Now()
		go func() {
			_, _ = write.Write([]byte("x"))
			time.Sleep(30 * time.Second)
			_ = write.Close()
		}()
		r.do(r.request(http.MethodPost, "/?tenant=a", body)).want(t, 504, "no response in time")
		if d := time.Since(begin); d < 32*time.Second || d > 32100*time.Millisecond {
			t.Fatalf("took %v, want 2 s from the end of the request", d)
		}
		r.settled()
	})
}

func TestHeadThatNeverEndsLosesItsConnection(t *testing.T) {
	for name, begin := range map[string]string{"h1": "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", "preface": "PRI * HT", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{})
				nc, err := r.net.Dial(t.Context(), "sidecar:80")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(nc, begin); err != nil {
					t.Fatal(err)
				}
				_ = nc.SetReadDeadline(time.Now().Add(2 * 5 * time.Minute))
				if _, err := io.ReadAll(nc); err != nil {
					t.Fatalf("still open after %v: %v", 2*5*time.Minute, err)
				}
				_ = nc.Close()
			})
		})
	}
}
