package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// memory is a limit of 1000 bytes that a test fills.
func memory(used *atomic.Int64) func(*Options) {
	return func(o *Options) {
		o.Limits.Memory = []MemoryLimit{{Name: HeapLimit, Max: 1000, Used: used.Load}}
	}
}

// TestOverloadShedsNewWorkFirst: as memory fills, keep-alives end, then new
// connections are closed, then new requests answered 503, then streams refused; old
// work goes on, and all of it is taken back.
func TestOverloadShedsNewWorkFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Int64
		r := newRig(t, snapshot.Source{Timeout: time.Hour, Idle: time.Hour, Degrade: []string{"/"}, Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}}, memory(&used))
		release := make(chan struct{})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/old" {
				<-release
			}
			_, _ = io.WriteString(w, "ok")
		})
		h1 := r.newClient(testkit.H1)
		old := make(chan reply, 1)
		go func() { old <- r.get("/old") }()
		w := r.caller()
		id := uint32(1)
		fill := func(n int64) {
			used.Store(n)
			w.ask(id, true, "GET", "/fill") // traffic: memory is looked at
			w.until("")
			id += 2
			time.Sleep(time.Second)
		}
		keeps := func() bool {
			req := r.request(http.MethodGet, "/", nil)
			resp, err := h1.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return !resp.Close
		}

		fill(849)
		if !keeps() || r.server.Shedding() {
			t.Error("below every bound something is done")
		}
		fill(850)
		if keeps() || r.reg.Total(telemetry.KeepAlivesEnded) == 0 {
			t.Error("keep-alives go on at 85 %")
		}
		if _, err := r.net.Dial(t.Context(), "sidecar:80"); err != nil {
			t.Error("a connection was refused at 85 %")
		}
		fill(900)
		nc, err := r.net.Dial(t.Context(), "sidecar:80")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || r.reg.Total(telemetry.TurnedAwayMemory) != 1 {
			t.Errorf("a new connection at 90 %%: %v", err)
		}
		r.get("/").want(t, 200, "ok") // on a connection that there is
		fill(950)
		r.get("/").want(t, 503, "short of memory").header(t, "Retry-After", "1").header(t, "X-Quadnine-Degraded", "")
		if r.reg.Total(telemetry.RefusedOverload) == 0 || r.reg.Total(telemetry.PeerAttempts) != 0 {
			t.Error("it is not counted, or a peer was asked")
		}
		used.Store(1000)
		time.Sleep(time.Second)
		w.ask(id, true, "GET", "/")
		w.until("RST_STREAM " + itoa(id) + " REFUSED_STREAM")
		id += 2
		close(release)
		if got := <-old; got.StatusCode != http.StatusOK || got.body != "ok" {
			t.Errorf("old work got %d %q", got.StatusCode, got.body)
		}
		if got := r.server.Overload(); len(got.Actions) != int(Actions) || got.Max != 0 {
			t.Errorf("%+v", got)
		}

		// A little less is not enough: a collection moves it that much.
		used.Store(990)
		time.Sleep(time.Second)
		w.ask(id, true, "GET", "/")
		w.until("RST_STREAM " + itoa(id) + " REFUSED_STREAM")
		used.Store(100)
		time.Sleep(time.Second)
		r.get("/").want(t, 200, "ok")
		if !keeps() || r.server.Shedding() {
			t.Error("it is not taken back")
		}
		r.client.CloseIdleConnections()
		h1.CloseIdleConnections()
		r.settled()
	})
}

func itoa(n uint32) string { return strings.TrimSpace(string(appendInt(nil, n))) }

func appendInt(dst []byte, n uint32) []byte {
	if n >= 10 {
		dst = appendInt(dst, n/10)
	}
	return append(dst, byte('0'+n%10))
}

// TestOverloadIsNotLookedAtWithoutTraffic: an idle process looks at nothing.
func TestOverloadIsNotLookedAtWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		r := newRig(t, snapshot.Source{}, func(o *Options) {
			o.Limits.Memory = []MemoryLimit{{Name: HeapLimit, Max: 1000, Used: func() int64 { looks.Add(1); return 0 }}}
		})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
		for range 20 { // more often than it is looked
			r.get("/").want(t, 200, "ok")
			time.Sleep(sampleEvery / 4)
		}
		busy := looks.Load()
		if busy < 3 || busy > 12 {
			t.Errorf("looked %d times in %v of traffic, want about every %v", busy, 5*sampleEvery, sampleEvery)
		}
		r.client.CloseIdleConnections()
		time.Sleep(time.Minute)
		rest := looks.Load()
		time.Sleep(time.Hour)
		if n := looks.Load() - rest; n > 1 {
			t.Errorf("looked %d times in an hour without traffic", n)
		}
	})
}

// TestScaledTrigger: between its bounds an action is taken for a share of the
// occasions.
func TestScaledTrigger(t *testing.T) {
	for _, c := range []struct {
		pressure float64
		want     uint32
	}{{0, 0}, {0.8, 0}, {0.85, always / 2}, {0.9, always}, {2, always}} {
		tr := Trigger{RefuseRequests, HeapLimit, 0.8, 0.9}
		if got := tr.share(c.pressure); got < c.want-c.want/100 || got > c.want+c.want/100 {
			t.Errorf("at %v: %d, want %d", c.pressure, got, c.want)
		}
	}
	var o overload
	o.share[RefuseRequests].Store(always / 4)
	n := 0
	for range 100_000 {
		if o.takes(RefuseRequests) {
			n++
		}
	}
	if n < 20_000 || n > 30_000 {
		t.Errorf("a quarter is %d of 100,000", n)
	}
}

func TestLimitsThatAreWrong(t *testing.T) {
	for want, l := range map[string]Limits{
		"memory limit heap is not above 0": {Memory: []MemoryLimit{{Name: HeapLimit}}},
		"trigger of refuse-requests: there is no memory limit other": {
			Memory: []MemoryLimit{{Name: HeapLimit, Max: 1}}, Triggers: []Trigger{{RefuseRequests, "other", 1, 1}},
		},
	} {
		var o overload
		if err := o.start(l); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestServerThatDoesNotStart leaves no goroutine behind.
func TestServerThatDoesNotStart(t *testing.T) {
	for want, o := range map[string]Options{
		"two listeners": {
			Snapshot: snapshotOf([]*snapshot.Listener{listener("in", "a:80", "a"), listener("in", "b:80", "a")}, cluster("a", "a:80")),
			Limits:   Limits{Memory: []MemoryLimit{{Name: HeapLimit, Max: 1000}}},
		},
		"not above 0": {Snapshot: new(snapshot.Snapshot), Limits: Limits{Memory: []MemoryLimit{{Name: HeapLimit}}}},
	} {
		synctest.Test(t, func(t *testing.T) { // which fails when one is left
			o.Registry, o.Log = telemetry.NewRegistry(), quiet(t)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// TestOverloadOnRealMemory: the runtime's own numbers, real sockets.
func TestOverloadOnRealMemory(t *testing.T) {
	const room = 64 << 20
	liveHeap()
	f := newFort(t, nil, func(o *Options) {
		o.Limits.Memory = []MemoryLimit{{Name: HeapLimit, Max: HeapUsed() + room}}
		o.Limits.Triggers = []Trigger{{RefuseRequests, HeapLimit, 0.95, 0.95}} // Go's client waits for seconds when a stream is refused
	})
	if err := f.ask("/"); err != nil {
		t.Fatal(err)
	}
	ballast := &[2 * room]byte{}
	liveHeap()
	f.until("a request is refused", func() bool {
		return f.ask("/") != nil && f.count(telemetry.RefusedOverload) > 0
	})
	runtime.KeepAlive(ballast)
	f.until("requests are served again", func() bool { return f.ask("/") == nil })
	if o := f.server.Overload(); o.Max == 0 || o.Used == 0 || o.Connections == 0 {
		t.Errorf("%+v", o)
	}
}

// TestConnectionCeiling: what comes above it is closed at once and counted, what
// is there goes on, and a place that becomes free is given away.
func TestConnectionCeiling(t *testing.T) {
	const most = 20
	f := newFort(t, nil, func(o *Options) { o.Limits.Connections = most })
	if err := f.ask("/"); err != nil { // the bystander's connection is the first
		t.Fatal(err)
	}
	f.meanwhile(func() {
		var kept []net.Conn
		for range most - 1 {
			kept = append(kept, f.attack().nc)
		}
		var d net.Dialer
		for range 200 {
			nc, err := d.DialContext(context.Background(), "tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Read(make([]byte, 1)); err == nil {
				t.Error("a connection above the ceiling was answered")
			}
			_ = nc.Close()
		}
		if n := f.count(telemetry.TurnedAwayFull); n != 200 {
			t.Errorf("%d refused, want 200", n)
		}
		if o := f.server.Overload(); o.Connections != most || o.MaxConnections != most {
			t.Errorf("%+v", o)
		}
		for _, nc := range kept { // old ones are served
			_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
			if line, err := bufio.NewReader(nc).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
				t.Errorf("an old connection got %q, %v", line, err)
			}
		}
		_ = kept[0].Close()
		f.until("a place is free", func() bool { return f.server.Overload().Connections < most })
		_ = f.attack()
	})
}

// TestOverloadInEnvoysWords: on a listener of a management server.
func TestOverloadInEnvoysWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Int64
		r := newManaged(t, memory(&used))
		r.app("a:80", named("a"))
		in := listener("in", "sidecar:80", "a")
		in.HTTP.Envoy = true
		r.apply(snapshotOf([]*snapshot.Listener{in}, cluster("a", "a:80")))
		r.get("/").want(t, 200, "a")
		used.Store(950)
		time.Sleep(time.Second)
		r.get("/").want(t, 200, "a") // it is looked at with this one
		synctest.Wait()
		r.get("/").want(t, 503, "envoy overloaded").header(t, "X-Quadnine-Reason", "overload")
		used.Store(0)
		time.Sleep(time.Second)
		r.get("/").want(t, 200, "a")
	})
}
