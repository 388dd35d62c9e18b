package driver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
)

// TestMain makes the test binary its own driver.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == driver.ChildArg {
		if err := driver.Child(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve starts an h2c server of the standard library.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}

// drive runs p in a process of its own.
func drive(t *testing.T, p driver.Plan) (driver.Result, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d, err := driver.Start(t.Context(), self, -1, p)
	if err != nil {
		return driver.Result{}, err
	}
	defer d.Stop()
	return d.Go(t.Context())
}

// seen is what a server was asked.
type seen struct {
	mu     sync.Mutex
	n      int
	paths  map[string]int
	traces map[string]int
	wrong  string
}

func (s *seen) handler(body string) http.HandlerFunc {
	s.paths, s.traces = map[string]int{}, map[string]int{}
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.n++
		s.paths[r.URL.String()]++
		s.traces[r.Header.Get("traceparent")]++
		if r.UserAgent() != "bench/1.0" || r.Header.Get("Accept") != "*/*" || r.Method != http.MethodGet {
			s.wrong = fmt.Sprint(r.Method, r.Header)
		}
		s.mu.Unlock()
		_, _ = io.WriteString(w, body)
	}
}

func TestEveryRequestHasItsOwnHeaders(t *testing.T) {
	var s seen
	addr := serve(t, s.handler("0123456789"))
	res, err := drive(t, driver.Plan{
		Addr: addr, Path: "/q", Connections: 3, Streams: 5, Duration: 100 * time.Millisecond,
		Unique: true, Tenants: 4, Metrics: 8, Body: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.wrong != "" {
		t.Errorf("headers arrived as %s", s.wrong)
	}
	if res.Done+3 != s.n || res.Done == 0 {
		t.Errorf("%d requests counted, and one on each of 3 connections before; the server saw %d", res.Done, s.n)
	}
	if res.Bytes != int64(10*res.Done) {
		t.Errorf("%d bytes counted for %d replies of 10", res.Bytes, res.Done)
	}
	if len(s.paths) != 32 || s.paths["/q?tenant=t-003&metric=m-007"] == 0 {
		t.Errorf("%d different paths, want 4 × 8: %v", len(s.paths), s.paths)
	}
	for trace, n := range s.traces {
		parts := strings.Split(trace, "-")
		if len(trace) != 55 || len(parts) != 4 || parts[0] != "00" || len(parts[1]) != 32 || strings.Trim(trace, "0123456789abcdef-") != "" {
			t.Fatalf("traceparent %q", trace)
		}
		if n > 1 && parts[1] != "0af7651916cd43dd8448eb211c80319c" { // what each connection begins with
			t.Fatalf("traceparent %q came %d times", trace, n)
		}
	}
}

func TestRateIsKept(t *testing.T) {
	var s seen
	addr := serve(t, s.handler("x"))
	res, err := drive(t, driver.Plan{Addr: addr, Path: "/", Connections: 2, Streams: 100, Rate: 1000, Duration: 200 * time.Millisecond, Body: 1})
	if err != nil {
		t.Fatal(err)
	}
	if res.Done != 200 || res.Overloaded {
		t.Errorf("%d done, overloaded %v: want 1000/s for 0.2 s", res.Done, res.Overloaded)
	}
	if res.Latency.P50 <= 0 || res.Latency.P99 < res.Latency.P50 || res.Latency.Max < res.Latency.P99 {
		t.Errorf("latencies %+v", res.Latency)
	}
}

// A server that stops for a while makes everything late that is due meanwhile,
// though only as many requests wait as the stream limit allows.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	const pause = 150 * time.Millisecond
	var n atomic.Int64
	var once sync.Mutex
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		once.Lock()
		if n.Add(1) == 20 {
			<-time.After(pause)
		}
		once.Unlock()
		_, _ = io.WriteString(w, "x")
	})
	res, err := drive(t, driver.Plan{Addr: addr, Path: "/", Connections: 1, Streams: 2, Rate: 1000, Duration: 300 * time.Millisecond, Body: 1})
	if err != nil {
		t.Fatal(err)
	}
	// Some 150 of the 300 were due during the pause; their mean wait is half of
	// it. A client that sends the next request when the last one is answered
	// would have seen 2 late ones of 300.
	if res.Latency.P90 < pause/3 {
		t.Errorf("p90 is %v with a pause of %v in the middle: the wait of requests that were due does not count", res.Latency.P90, pause)
	}
}

func TestWrongAnswersFail(t *testing.T) {
	t.Run("status", func(t *testing.T) {
		var n atomic.Int64
		addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) > 5 {
				w.WriteHeader(http.StatusBadGateway)
			}
		})
		_, err := drive(t, driver.Plan{Addr: addr, Path: "/", Connections: 1, Streams: 1, Duration: 50 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "does not begin with status 200") {
			t.Errorf("replies with 502: %v", err)
		}
	})
	t.Run("length", func(t *testing.T) {
		addr := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "123") })
		_, err := drive(t, driver.Plan{Addr: addr, Path: "/", Connections: 1, Streams: 1, Duration: 50 * time.Millisecond, Body: 4})
		if err == nil || !strings.Contains(err.Error(), "3 bytes, want 4") {
			t.Errorf("replies too short: %v", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = drive(t, driver.Plan{Addr: l.Addr().String(), Path: "/", Connections: 1, Streams: 1, Duration: time.Second})
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("nobody listens: %v", err)
		}
	})
}

func TestHoldKeepsConnections(t *testing.T) {
	var open atomic.Int64
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		default:
		}
	}, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d, err := driver.Start(t.Context(), self, -1, driver.Plan{Addr: l.Addr().String(), Path: "/", Connections: 70, Streams: 1, Rate: 1000, Duration: 50 * time.Millisecond, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	if res, err := d.Go(t.Context()); err != nil || res.Done != 50 {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := open.Load(); n != 70 {
		t.Errorf("%d connections are open behind the run, want 70", n)
	}
	d.Stop()
	if err := d.Wait(context.Background()); err != nil && !strings.Contains(err.Error(), "signal") {
		t.Errorf("end: %v", err)
	}
}

// Long streams against a standard server that echoes.
func TestMessagesComeBack(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "grpc-status")
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("grpc-status", "0")
	})
	res, err := drive(t, driver.Plan{Addr: addr, Path: "/grpc", Connections: 2, Streams: 3, Duration: 100 * time.Millisecond, Warm: 20 * time.Millisecond, Message: 100, Outstanding: 4})
	if err != nil {
		t.Fatal(err)
	}
	if res.Done == 0 || res.Bytes != int64(100*res.Done) {
		t.Errorf("%d messages and %d bytes came back", res.Done, res.Bytes)
	}
}

func TestPlansThatCannotBeRun(t *testing.T) {
	for _, p := range []driver.Plan{
		{},
		{Addr: "127.0.0.1:1", Path: "/", Connections: 1, Streams: 1},
		{Addr: "127.0.0.1:1", Path: "/", Connections: 1, Duration: 1},
		{Addr: "127.0.0.1:1", Path: "/", Connections: 1, Streams: 1, Duration: 1, Message: 9},
	} {
		if _, err := drive(t, p); err == nil || !strings.Contains(err.Error(), driver.ErrPlan.Error()) {
			t.Errorf("%+v: %v, want ErrPlan", p, err)
		}
	}
}
