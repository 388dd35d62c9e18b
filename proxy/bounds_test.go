package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

func TestReplyThatOverflowsInItsLastChunkIsWhole(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
				r.client = r.newClient(down)
				whole := policy.DefaultCacheConfig().MaxBodyBytes
				r.frameApp("app:80", func(w *wire) {
					w.until("HEADERS 1")
					w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
					w.headers(1, false, ":status", "200")
					for sent := 0; sent < whole; sent += 1 << 14 {
						w.do(func(fr *http2.Framer) error { return fr.WriteData(1, false, make([]byte, 1<<14)) })
						time.Sleep(time.Millisecond) // the window opens: a held reply is consumed
					}
					w.do(func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("the end")) })
				})
				got := r.get(query+"?tenant=a").want(t, 200, "")
				if got.err != nil || len(got.body) != whole+len("the end") {
					t.Fatalf("%d of %d bytes, err %v", len(got.body), whole+len("the end"), got.err)
				}
				r.settled()
			})
		})
	}
}

func TestGatheredBodyIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		w := r.caller()
		w.ask(1, false, "POST", query+"?tenant=a", "expect", "100-continue")
		if got := w.until("HEADERS 1"); !strings.Contains(got, ":status=100") {
			t.Fatalf("got %s, want 100", got)
		}
		w.do(func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("body")) })
		if got := w.until("HEADERS 1"); !strings.Contains(got, ":status=200") {
			t.Fatalf("got %s, want 200", got)
		}
	})
}

func TestEventStreamHoldsNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", req.URL.Query().Get("type"))
			for range 40 {
				_, _ = w.Write(make([]byte, 64<<10))
				w.(http.Flusher).Flush()
			}
			<-req.Context().Done()
		})
		for _, typ := range []string{"text/event-stream", "text/plain"} {
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := r.client.Do(r.request(http.MethodGet, query+"?type="+typ, nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 40*64<<10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := r.server.budget.used.Load(); n != 0 {
				t.Errorf("%s: a stream whose reply cannot be stored holds %d bytes of the budget", typ, n)
			}
			cancel()
			_ = resp.Body.Close()
		}
		r.settled()
	})
}

func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
		r.get("/?tenant="+strings.Repeat("t", maxName)).want(t, 200, "ok")
		r.get("/?tenant="+strings.Repeat("t", maxName+1)).want(t, 400, "longer than")
		r.get("/?tenant=a", "X-Metric", strings.Repeat("m", maxName+1)).want(t, 400, "longer than")
	})
}

func TestTrailersMayNotSpeakInOurName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		seen := make(chan http.Header, 1)
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			seen <- req.Trailer
			w.Header().Set("Trailer", "X-Quadnine-Degraded, X-Sum")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-Quadnine-Degraded", "forged")
			w.Header().Set("X-Sum", "1")
		})
		req := r.request(http.MethodPost, "/", struct{ io.Reader }{strings.NewReader("b")})
		req.Trailer = http.Header{"X-Quadnine-Hop": {"1"}, "X-Mine": {"2"}}
		got := r.do(req).want(t, 200, "x")
		if got.Trailer.Get("X-Quadnine-Degraded") != "" || got.Trailer.Get("X-Sum") != "1" {
			t.Fatalf("response trailers %v", got.Trailer)
		}
		if tr := <-seen; tr.Get("X-Quadnine-Hop") != "" || tr.Get("X-Mine") != "2" {
			t.Fatalf("request trailers %v", tr)
		}
	})
}

func TestDegradePathHoldsNeitherHintsNorGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X-Quadnine-Degraded", "forged")
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
			time.Sleep(time.Second)
			w.Header().Set("Content-Type", req.Header.Get("Content-Type"))
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "second")
		})
		w := r.caller()
		begin := time.Now()
		at := func(prefix, part string, want time.Duration) {
			t.Helper()
			got := w.until(prefix)
			if d := time.Since(begin); !strings.Contains(got, part) || d != want || strings.Contains(got, "forged") {
				t.Fatalf("%q after %v, want %q after %v", got, d, part, want)
			}
		}
		w.ask(1, true, "GET", query)
		at("HEADERS 1", ":status=103", 0)
		at("HEADERS 1", ":status=200", 2*time.Second)
		w.ask(3, true, "POST", query, "content-type", "application/grpc")
		at("HEADERS 3", ":status=103", 2*time.Second)
		at("HEADERS 3", ":status=200", 3*time.Second)
		at("DATA 3", "5", 3*time.Second)
		at("DATA 3", "6", 4*time.Second)
	})
}

func (nowhere) WriteTrailers(*field.List) {}
