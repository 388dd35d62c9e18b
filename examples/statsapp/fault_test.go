package statsapp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func mustSet(t *testing.T, app *App, tenant string, f Fault) {
	t.Helper()
	if err := app.SetFault(tenant, f); err != nil {
		t.Fatal(err)
	}
}

// Each fault as a client meets it on a real connection, while another tenant is
// answered as ever.
func TestFaultsOnTheWire(t *testing.T) {
	for _, wire := range wires {
		t.Run(string(wire), func(t *testing.T) {
			app := seededApp(t)
			url := serve(t, app)
			c := client(t, wire)
			const path = queryPath + "?metric=pv&tenant="
			healthy := do(t, c, "GET", url+path+"acme", "")

			others := func() {
				t.Helper()
				if a := do(t, c, "GET", url+path+"globex", ""); a.StatusCode != http.StatusOK {
					t.Errorf("another tenant got %d", a.StatusCode)
				}
			}

			mustSet(t, app, "acme", Fault{Kind: Error})
			if a := do(t, c, "GET", url+path+"acme", ""); a.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("error: %d", a.StatusCode)
			}
			mustSet(t, app, "acme", Fault{Kind: Error, Status: 502})
			if a := do(t, c, "POST", url+queryPath, `{"tenant":"acme","metric":"pv"}`); a.StatusCode != http.StatusBadGateway {
				t.Errorf("error of a POST: %d", a.StatusCode)
			}
			others()

			mustSet(t, app, "acme", Fault{Kind: Delay, DelayMS: 60})
			begin := time.Now()
			if a := do(t, c, "GET", url+path+"acme", ""); a.body != healthy.body || time.Since(begin) < 60*time.Millisecond {
				t.Errorf("delay: %s after %v", a.body, time.Since(begin))
			}

			mustSet(t, app, "acme", Fault{Kind: Hang})
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
			if _, err := try(ctx, c, "GET", url+path+"acme", ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("hang: %v", err)
			}
			cancel()
			others()

			mustSet(t, app, "acme", Fault{Kind: Reset})
			if a, err := try(t.Context(), c, "GET", url+path+"acme", ""); err == nil || a.Response != nil {
				t.Errorf("reset: %v, %v; want no response", a.Response, err)
			}
			others()

			mustSet(t, app, "acme", Fault{Kind: Partial})
			a, err := try(t.Context(), c, "GET", url+path+"acme", "")
			if err == nil || a.Response == nil {
				t.Fatalf("partial: %v, %v; want a response that breaks off", a.Response, err)
			}
			if a.ContentLength != healthy.ContentLength || a.body != healthy.body[:len(healthy.body)/2] {
				t.Errorf("partial: announced %d, sent %q", a.ContentLength, a.body)
			}
			others()

			mustSet(t, app, "acme", Fault{Kind: None})
			if a := do(t, c, "GET", url+path+"acme", ""); a.body != healthy.body {
				t.Errorf("none: %s", a.body)
			}
		})
	}
}

// A hang ends on the server's side too: Shutdown, which waits for requests in
// flight, returns once the caller has left.
func TestHangEndsWithTheCaller(t *testing.T) {
	for _, wire := range wires {
		for _, method := range []string{"GET", "POST"} {
			t.Run(string(wire)+" "+method, func(t *testing.T) {
				app := newApp(t, Options{})
				url := serve(t, app)
				mustSet(t, app, "t", Fault{Kind: Hang})
				ctx, cancel := context.WithCancel(t.Context())
				left := make(chan error, 1)
				c := client(t, wire)
				go func() {
					_, err := try(ctx, c, method, url+queryPath+"?tenant=t&metric=pv", `{"tenant":"t"}`)
					left <- err
				}()
				waitFor(t, func() bool { return app.Requests("t") == 1 })
				cancel()
				if err := <-left; !errors.Is(err, context.Canceled) {
					t.Errorf("caller: %v", err)
				}
				grace, stop := context.WithTimeout(t.Context(), 10*time.Second)
				defer stop()
				if err := app.Shutdown(grace); err != nil {
					t.Errorf("still in flight: %v", err)
				}
			})
		}
	}
}

func TestFaultsOfEchoAndEvents(t *testing.T) {
	for _, wire := range wires {
		t.Run(string(wire), func(t *testing.T) {
			app := newApp(t, Options{})
			url := serve(t, app)
			c := client(t, wire)
			mustSet(t, app, "acme", Fault{Kind: Partial})
			for _, query := range []string{"", "?stream=1"} {
				body := strings.Repeat("x", 1000)
				a, err := try(t.Context(), c, "POST", url+"/api/v2/echo"+query, body, "x-tenant-id", "acme")
				if err == nil || a.ContentLength != 1000 || len(a.body) != 500 {
					t.Errorf("echo%s: %v, %d bytes", query, err, len(a.body))
				}
			}
			mustSet(t, app, "acme", Fault{Kind: Error, Status: 500})
			for _, path := range []string{eventsPath, "/api/v2/echo?tenant=acme", "/api/v2/echo?stream=1&tenant=acme"} {
				if a := do(t, c, "POST", url+path, v1Line); a.StatusCode != http.StatusInternalServerError {
					t.Errorf("%s: %d", path, a.StatusCode)
				}
			}
			mustSet(t, app, "acme", Fault{Kind: None})
			if a := do(t, c, "GET", url+queryPath+"?tenant=acme&metric=pv", ""); !strings.Contains(a.body, `"value":0,`) {
				t.Errorf("events of a failed request were kept: %s", a.body)
			}
		})
	}
}

// Of each hundred requests in a row Percent are hit, whatever the rounding.
func TestFaultPercentIsExact(t *testing.T) {
	for _, percent := range []int{0, 1, 30, 33, 50, 99, 100} {
		fs := newFaults(1)
		if err := fs.set("t", Fault{Kind: Error, Percent: percent}); err != nil {
			t.Fatal(err)
		}
		want := percent
		if percent == 0 {
			want = 100
		}
		for range 3 {
			hits := 0
			for range 100 {
				if _, hit := fs.draw("t"); hit {
					hits++
				}
			}
			if hits != want {
				t.Errorf("percent %d: %d of 100", percent, hits)
			}
		}
		if _, hit := fs.draw("other"); hit {
			t.Error("another tenant was hit")
		}
	}
}

func TestAdminSwitchesFaults(t *testing.T) {
	app := newApp(t, Options{MaxTenants: 1})
	for _, tc := range []struct {
		tenant, body string
		status       int
		says         string
	}{
		{"acme", `{"kind":"error","status":504,"percent":50,"delay_ms":0}`, 200, `{"kind":"error","status":504,"percent":50}`},
		{"globex", `{"kind":"hang"}`, 400, "1 tenants have faults"},
		{"a%20b", `{"kind":"hang"}`, 400, `"field":"tenant"`},
		{"acme", `{"kind":"explode"}`, 400, `"field":"kind"`},
		{"acme", `{"kind":"error","status":404}`, 400, `"field":"status"`},
		{"acme", `{"kind":"delay"}`, 400, `"field":"delay_ms"`},
		{"acme", `{"kind":"delay","delay_ms":600001}`, 400, `"field":"delay_ms"`},
		{"acme", `{"kind":"error","percent":101}`, 400, `"field":"percent"`},
		{"acme", `{"kind":"error","percentage":1}`, 400, `unknown field`},
		{"acme", `error`, 400, `"field":"body"`},
	} {
		if w := record(app, "PUT", "/faults/"+tc.tenant, tc.body); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%s %s: %d %s; want %d, %s", tc.tenant, tc.body, w.Code, w.Body, tc.status, tc.says)
		}
	}
	for range 4 {
		record(app, "GET", queryPath+"?tenant=acme&metric=pv", "")
	}
	const want = `{"acme":{"kind":"error","status":504,"percent":50,"seen":4,"hits":2}}`
	if got := record(app, "GET", "/faults", "").Body.String(); got != want+"\n" {
		t.Errorf("faults %s, want %s", got, want)
	}
	if got := record(app, "GET", "/debug/counters", "").Body.String(); !strings.Contains(got, `"requests":{"*":0,"acme":4}`) || !strings.Contains(got, want) {
		t.Errorf("counters %s", got)
	}
	record(app, "PUT", "/faults/acme", `{"kind":"none"}`)
	if got := record(app, "GET", "/faults", "").Body.String(); got != "{}\n" {
		t.Errorf("after none: %s", got)
	}
}

// A body that never ends is refused once it is too long.
func TestEndlessBodyIsRefused(t *testing.T) {
	url := serve(t, newApp(t, Options{MaxBody: 100_000}))
	for _, wire := range wires {
		for _, path := range []string{eventsPath, "/api/v2/echo", queryPath} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, endless{})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client(t, wire).Do(req)
			if err != nil {
				t.Fatalf("%s %s: %v", wire, path, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // the connection may be cut behind the status
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s: %d", wire, path, resp.StatusCode)
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
