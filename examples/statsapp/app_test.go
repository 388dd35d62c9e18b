package statsapp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newApp(t *testing.T, opt Options) *App {
	t.Helper()
	app, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	return app
}

// serve starts app on loopback and returns its base URL.
func serve(t *testing.T, app *App) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := app.Serve(ln); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { app.Close(); wg.Wait() })
	return "http://" + ln.Addr().String()
}

// client speaks one protocol only, and keeps no connection after the test.
func client(t *testing.T, p Protocol) *http.Client {
	t.Helper()
	set, err := p.protocols()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Protocols: set}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := try(t.Context(), c, method, url, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

func try(ctx context.Context, c *http.Client, method, url, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

var wires = []Protocol{HTTP1, H2C}

func TestProtocolsOfOnePort(t *testing.T) {
	for _, tc := range []struct {
		serve   Protocol
		h1, h2c bool
	}{{Both, true, true}, {HTTP1, true, false}, {H2C, false, true}} {
		t.Run(string(tc.serve), func(t *testing.T) {
			url := serve(t, newApp(t, Options{Protocol: tc.serve}))
			for wire, want := range map[Protocol]bool{HTTP1: tc.h1, H2C: tc.h2c} {
				a, err := try(t.Context(), client(t, wire), "GET", url+"/healthz", "")
				got := err == nil && a.StatusCode == http.StatusOK
				if got != want {
					t.Errorf("client %s: answered %v (%v), want %v", wire, got, err, want)
				}
				if got && (a.ProtoMajor == 2) != (wire == H2C) {
					t.Errorf("client %s got %s", wire, a.Proto)
				}
			}
		})
	}
	if _, err := New(Options{Protocol: "h3"}); err == nil || !strings.Contains(err.Error(), `"h3"`) {
		t.Errorf("unknown protocol: %v", err)
	}
}

func TestModelVersionIsEchoed(t *testing.T) {
	url := serve(t, newApp(t, Options{}))
	for _, wire := range wires {
		c := client(t, wire)
		if a := do(t, c, "GET", url+"/api/v2/metrics/query?tenant=t&metric=pv", "", "x-model-version", "m@7"); a.Header.Get("X-Model-Version") != "m@7" {
			t.Errorf("%s: header %v", wire, a.Header)
		}
		if a := do(t, c, "GET", url+"/healthz", ""); a.Header.Values("X-Model-Version") != nil {
			t.Errorf("%s: unasked: %v", wire, a.Header)
		}
	}
}

func TestEcho(t *testing.T) {
	url := serve(t, newApp(t, Options{}))
	big := strings.Repeat("0123456789abcdef", 10<<20/16)
	for _, wire := range wires {
		for _, query := range []string{"", "?stream=1", "?trailers=1", "?stream=1&trailers=1"} {
			t.Run(string(wire)+query, func(t *testing.T) {
				c := client(t, wire)
				a := do(t, c, "POST", url+"/api/v2/echo"+query, big, "content-type", "text/x-big")
				if a.body != big || a.Header.Get("Content-Type") != "text/x-big" {
					t.Fatalf("%d bytes of %s", len(a.body), a.Header.Get("Content-Type"))
				}
				if !strings.Contains(query, "trailers") {
					if a.ContentLength != int64(len(big)) || len(a.Trailer) > 0 {
						t.Errorf("content-length %d, trailers %v", a.ContentLength, a.Trailer)
					}
					return
				}
				// sha256sum of the 10 MiB above.
				const sum = "3f5862181da2da49ce240dea1c5cfdafda27f0864f7576b59b0b437c3e463bfd"
				if a.Trailer.Get("x-echo-bytes") != "10485760" || a.Trailer.Get("x-echo-sha256") != sum {
					t.Errorf("trailers %v", a.Trailer)
				}
			})
		}
		if a := do(t, client(t, wire), "POST", url+"/api/v2/echo", "", "te", "trailers"); a.Trailer.Get("x-echo-bytes") != "0" {
			t.Errorf("%s: te: trailers: got %v", wire, a.Trailer)
		}
	}
}

// A streamed echo answers the first piece before the request has ended.
func TestEchoStreams(t *testing.T) {
	url := serve(t, newApp(t, Options{}))
	for _, wire := range wires {
		t.Run(string(wire), func(t *testing.T) {
			pr, pw := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v2/echo?stream=1", pr)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client(t, wire).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for _, piece := range []string{"first", "second"} {
				if _, err := io.WriteString(pw, piece); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(piece))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != piece {
					t.Fatalf("%q: got %q, %v", piece, got, err)
				}
			}
			pw.Close()
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("rest %q, %v", rest, err)
			}
		})
	}
}

func TestCloseIsHard(t *testing.T) {
	for _, wire := range wires {
		t.Run(string(wire), func(t *testing.T) {
			app := newApp(t, Options{})
			url := serve(t, app)
			c := client(t, wire)
			if err := app.SetFault("t", Fault{Kind: Hang}); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := try(context.Background(), c, "GET", url+"/api/v2/metrics/query?tenant=t&metric=pv", "")
				failed <- err
			}()
			waitFor(t, func() bool { return app.Requests("t") == 1 })
			app.Close()
			if err := <-failed; err == nil {
				t.Error("a request in flight was answered")
			}
			if _, err := try(t.Context(), c, "GET", url+"/healthz", ""); err == nil {
				t.Error("still answers")
			}
		})
	}
}

func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	for _, wire := range wires {
		t.Run(string(wire), func(t *testing.T) {
			app := newApp(t, Options{})
			url := serve(t, app)
			if err := app.SetFault("t", Fault{Kind: Delay, DelayMS: 200}); err != nil {
				t.Fatal(err)
			}
			type result struct {
				a   answer
				err error
			}
			got := make(chan result, 1)
			c := client(t, wire)
			go func() {
				a, err := try(context.Background(), c, "GET", url+"/api/v2/metrics/query?tenant=t&metric=pv", "")
				got <- result{a, err}
			}()
			waitFor(t, func() bool { return app.Requests("t") == 1 })
			if err := app.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := <-got; r.err != nil || r.a.StatusCode != http.StatusOK {
				t.Errorf("in flight: %v, %v", r.a.Response, r.err)
			}
		})
	}
}

// waitFor asks until ok, at most ten seconds.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited ten seconds")
		}
	}
}

func TestSeedIsDeterministic(t *testing.T) {
	ask := func(tenants ...string) string {
		app := newApp(t, Options{})
		if err := app.Seed(42, tenants, 2000); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, metric := range []string{"pv", "uv&approx=true", "ratio", "avg_duration", "orders", "funnel&steps=view,cart,buy"} {
			w := record(app, "GET", "/api/v2/metrics/query?tenant=acme&metric="+metric, "")
			out.WriteString(w.Body.String())
		}
		return out.String()
	}
	alone, among := ask("acme"), ask("globex", "acme")
	if alone != among || !strings.Contains(alone, `"metric":"pv","from":"1970-01-01T00:00:00Z","to":"2100-01-01T00:00:00Z","value":2000,`) {
		t.Errorf("alone:\n%s\namong others:\n%s", alone, among)
	}
}

func TestBounds(t *testing.T) {
	app := newApp(t, Options{MaxTenants: 2, MaxEvents: 3, MaxNames: 2})
	add := func(tenant, name string) error {
		return app.Add(Event{Tenant: tenant, Name: name, User: "u"})
	}
	for _, ok := range []error{add("a", "x"), add("a", "y"), add("b", "x")} {
		if ok != nil {
			t.Fatal(ok)
		}
	}
	for what, err := range map[string]error{"third name": add("a", "z"), "third tenant": add("c", "x")} {
		if !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := add("a", "x"); err != nil {
		t.Fatal(err)
	}
	if err := add("a", "x"); !errors.Is(err, ErrFull) {
		t.Errorf("fourth event: %v", err)
	}
	for _, tenant := range []string{"a", "b", "c", "d", "c"} {
		record(app, "GET", "/api/v2/metrics/query?metric=pv&tenant="+tenant, "")
	}
	if a, c, other := app.Requests("a"), app.Requests("c"), app.counters.of(otherTenants); a != 1 || c != 0 || other != 3 {
		t.Errorf("requests: a %d, c %d, others %d; want 1, 0, 3", a, c, other)
	}
}

func TestFaultDelayTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(t, Options{})
		if err := app.SetFault("t", Fault{Kind: Delay, DelayMS: 90_000}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		w := record(app, "GET", "/api/v2/metrics/query?tenant=t&metric=pv", "")
		if took := time.Since(begin); took != 90*time.Second || w.Code != http.StatusOK {
			t.Errorf("status %d after %v", w.Code, took)
		}
	})
}
