package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

func TestProbeFindsHTTP2(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		r.serve("app:80", hello, testkit.H2, testkit.H1)
		ep := r.cluster.Endpoints()[0]
		if ep.Protocol() != snapshot.Auto {
			t.Fatalf("protocol %v before anything was asked", ep.Protocol())
		}
		r.get("/1").ok("/1")
		if ep.Protocol() != snapshot.H2C {
			t.Fatalf("learned %v, want %v", ep.Protocol(), snapshot.H2C)
		}
		r.get("/2").ok("/2")
		if n := r.net.Dials("app:80"); n != 1 {
			t.Errorf("dialed %d times, want once", n)
		}
		want := Counts{Connects: 1, Requests: 2}
		if got := ep.Counts(); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
		if r.connected != 1 || r.fellBack != 0 || r.dialFailed != 0 {
			t.Errorf("events: %d connected, %d fell back, %d failed", r.connected, r.fellBack, r.dialFailed)
		}
	})
}

// http1 answers HTTP/1.1 requests on c and treats the HTTP/2 preface as told.
func http1(c net.Conn, onPreface func(net.Conn)) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		if p, err := br.Peek(3); err != nil {
			return
		} else if string(p) == "PRI" {
			onPreface(c)
			return
		}
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		resp := &http.Response{
			StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1,
			Body: io.NopCloser(strings.NewReader(req.URL.Path)), ContentLength: int64(len(req.URL.Path)),
		}
		if resp.Write(c) != nil {
			return
		}
	}
}

func TestProbeFallsBackToHTTP1(t *testing.T) {
	for name, c := range map[string]struct {
		onPreface func(net.Conn)
		after     time.Duration
	}{
		"answers 400": {onPreface: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}},
		"answers 400 and stays": {onPreface: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}},
		"closes":  {onPreface: func(net.Conn) {}},
		"silence": {onPreface: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, after: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []string{"http://app:80"}, func(r *rig) {
				r.serveConns("app:80", func(nc net.Conn) { http1(nc, c.onPreface) })
				begin := time.Now()
				r.get("/1").ok("/1")
				if took := time.Since(begin); took != c.after {
					t.Errorf("fell back after %v, want %v", took, c.after)
				}
				if p := r.cluster.Endpoints()[0].Protocol(); p != snapshot.H1 {
					t.Fatalf("learned %v, want %v", p, snapshot.H1)
				}
				r.get("/2").ok("/2")
				if n := r.net.Dials("app:80"); n != 2 {
					t.Errorf("dialed %d times, want twice: the probe and one that is kept", n)
				}
				if r.fellBack != 1 {
					t.Errorf("fell back %d times, want once", r.fellBack)
				}
				if s := r.cluster.State(); s != "closed" {
					t.Errorf("cluster breaker %s: a fallback is no failure", s)
				}
			})
		})
	}
}

// TestProbeFallsBackOnGoServer: what Go's own HTTP/1.1 server does with a preface.
func TestProbeFallsBackOnGoServer(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		r.serve("app:80", hello, testkit.H1)
		r.get("/1").ok("/1")
		if p := r.cluster.Endpoints()[0].Protocol(); p != snapshot.H1 {
			t.Fatalf("learned %v, want %v", p, snapshot.H1)
		}
	})
}

// TestProbeIsSharedByWhoeverWaits: requests that come while an endpoint is
// probed wait for the answer instead of probing again.
func TestProbeIsSharedByWhoeverWaits(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		r.serveConns("app:80", func(nc net.Conn) { http1(nc, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) })
		var tries []*try
		for range 3 {
			tries = append(tries, r.get("/x"))
			time.Sleep(100 * time.Millisecond)
		}
		if n := r.net.Dials("app:80"); n != 1 {
			t.Errorf("dialed %d times while probing, want once", n)
		}
		for _, x := range tries {
			x.ok("/x")
		}
		if r.fellBack != 1 {
			t.Errorf("fell back %d times, want once", r.fellBack)
		}
	})
}

func TestForcedProtocolsAreNotProbed(t *testing.T) {
	for scheme, p := range map[string]testkit.Protocol{"h2c": testkit.H2, "h1": testkit.H1} {
		t.Run(scheme, func(t *testing.T) {
			bubble(t, []string{scheme + "://app:80"}, func(r *rig) {
				r.serve("app:80", hello, p)
				r.get("/1").ok("/1")
				if n := r.net.Dials("app:80"); n != 1 || r.fellBack != 0 {
					t.Errorf("dialed %d times and fell back %d times, want once and never", n, r.fellBack)
				}
			})
		})
	}
}

// TestForcedHTTP2NeverFallsBack: whoever forces a protocol gets an error that
// says so, not another protocol.
func TestForcedHTTP2NeverFallsBack(t *testing.T) {
	bubble(t, []string{"h2c://app:80"}, func(r *rig) {
		r.serve("app:80", hello, testkit.H1)
		for range 3 {
			x := r.get("/1")
			<-x.over
			if x.fail == nil || !x.fail.ConnLost {
				t.Fatalf("status %q, error %v, failure %+v; want a lost connection", x.status, x.err, x.fail)
			}
		}
		if p := r.cluster.Endpoints()[0].Protocol(); p != snapshot.H2C {
			t.Errorf("protocol %v, want the forced one", p)
		}
	})
}

// TestAnotherProgramAfterARestart: what was learned is forgotten when the
// endpoint goes away, and when it answers in another protocol.
func TestAnotherProgramAfterARestart(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		ep := r.cluster.Endpoints()[0]
		app := r.serve("app:80", hello, testkit.H2)
		r.get("/1").ok("/1")
		app.Kill()
		synctest.Wait()
		app = r.serve("app:80", hello, testkit.H1)
		x := r.get("/2") // still taken for HTTP/2
		<-x.over
		if x.fail == nil {
			t.Fatalf("status %q, error %v; want a failure", x.status, x.err)
		}
		synctest.Wait()
		r.get("/3").ok("/3")
		if ep.Protocol() != snapshot.H1 {
			t.Fatalf("learned %v, want %v", ep.Protocol(), snapshot.H1)
		}
		app.Kill()
		synctest.Wait()
		down := r.get("/4")
		<-down.over
		if down.err == nil || ep.Protocol() != snapshot.Auto {
			t.Fatalf("error %v and protocol %v, want a failed dial that forgets", down.err, ep.Protocol())
		}
		time.Sleep(maxBackoff)
		r.serve("app:80", hello, testkit.H2)
		r.get("/5").ok("/5")
		if ep.Protocol() != snapshot.H2C {
			t.Fatalf("learned %v, want %v", ep.Protocol(), snapshot.H2C)
		}
	})
}

// halfClosing is a connection whose end the peer may take its time to answer, as
// on TCP: the shard lingers on it.
type halfClosing struct{ net.Conn }

func (halfClosing) CloseWrite() error { return nil }

// TestFallbackDoesNotWaitForTheLinger: the probe's connection may still be
// closing when the next one is dialed.
func TestFallbackDoesNotWaitForTheLinger(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		r.pool.dial = func(ctx context.Context, address string) (net.Conn, error) {
			c, err := r.net.Dial(ctx, address)
			return halfClosing{c}, err
		}
		r.serveConns("app:80", func(nc net.Conn) { http1(nc, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) })
		begin := time.Now()
		r.get("/x").ok("/x")
		if took := time.Since(begin); took != time.Second {
			t.Errorf("fell back after %v, want %v", took, time.Second)
		}
	})
}
