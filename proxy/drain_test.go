package proxy

import (
	"context"
	"errors"
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

func TestDrainServesWhatItHasAcceptedAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "kept") })
		conns := make([]net.Conn, 4)
		for i := range conns {
			nc, err := r.net.Dial(t.Context(), "sidecar:80")
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = nc
		}
		synctest.Wait()
		for i, begin := range []string{"", "", "GET / HTTP/1.1\r\nho", "GET / HTTP/1.1\r\n"} { // 0 stays silent, 1 has its request on the way
			_, _ = io.WriteString(conns[i], begin)
		}
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		synctest.Wait()
		answers := make(chan string, len(conns))
		for i, rest := range []string{"", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "st: a\r\n\r\n", "x-slow: "} {
			go func() {
				_, _ = io.WriteString(conns[i], rest)
				b, _ := io.ReadAll(conns[i])
				answers <- string(b)
			}()
		}
		kept := 0
		for range conns {
			if a := <-answers; strings.HasSuffix(a, "kept") && strings.Contains(a, "connection: close") {
				kept++
			}
		}
		if kept != 2 {
			t.Fatalf("%d of 2 requests answered", kept)
		}
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLateConnectionDoesNotHoldUpADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		release := make(chan struct{})
		r.app("app:80", func(http.ResponseWriter, *http.Request) { <-release })
		go func() { _, _ = r.try(time.Hour, r.request(http.MethodGet, "/", nil)) }()
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		synctest.Wait()
		near, far := net.Pipe()
		defer func() { _ = near.Close() }()
		l := r.server.loops[0]
		l.shard.Post(&newDownConn(l, r.place(), far).arrive) // accepted just before the listener closed
		time.Sleep(time.Second)
		close(release)
		time.Sleep(time.Minute)
		select {
		case err := <-drained:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("a silent connection holds up the drain")
		}
	})
}

func TestDrainEndsWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		go func() { _, _ = r.try(time.Hour, r.request(http.MethodGet, "/", nil)) }()
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(context.Background()) }()
		time.Sleep(time.Second)
		r.server.Close()
		if err := <-drained; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v, want ErrClosed", err)
		}
	})
}

func TestStreamsBetweenTheTwoGoAwaysAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "kept") })
		w := r.caller()
		w.ask(1, true, "GET", "/")
		w.until("DATA 1")
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		w.until("GOAWAY 2147483647 NO_ERROR")
		w.ask(3, true, "GET", "/")
		if got := w.until("HEADERS 3"); !strings.Contains(got, ":status=200") {
			t.Fatalf("got %s", got)
		}
		w.until("GOAWAY 3 NO_ERROR")
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	})
}

// TestLeave: callers are asked with their next reply, new ones are still served,
// until the time is over.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		in := listener("in", "sidecar:80", "a")
		r.apply(snapshotOf([]*snapshot.Listener{in}, cluster("a", "a:80")))
		w := r.caller()
		w.ask(1, true, "GET", "/")
		w.until("DATA 1")
		r.server.Leave(time.Minute, true)
		if !r.server.Draining() {
			t.Error("new callers are not told")
		}
		time.Sleep(30 * time.Second)
		w.ask(3, true, "GET", "/")
		w.until("GOAWAY 2147483647 NO_ERROR")
		w.until("GOAWAY 3 NO_ERROR")
		fresh := r.caller() // it is served before it is asked
		fresh.ask(1, true, "GET", "/")
		fresh.until("GOAWAY 2147483647 NO_ERROR")
		time.Sleep(time.Minute)
		if _, err := r.net.Dial(t.Context(), "sidecar:80"); err == nil {
			t.Error("connections are still taken")
		}
		// What is configured from now on is taken, and nothing is opened for it.
		other := listener("other", "other:80", "a")
		r.apply(snapshotOf([]*snapshot.Listener{in, other}, cluster("a", "a:80")))
		if n := len(r.server.Addrs("other")); n != 0 {
			t.Errorf("%d addresses were opened", n)
		}
	})
}

// TestLeaveWithoutAnEnd: connections are taken for as long as it takes.
func TestLeaveWithoutAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
		r.client = r.newClient(testkit.H1)
		r.server.Leave(time.Second, false)
		for range 3 {
			if got := r.get("/").want(t, 200, "a"); !got.Close {
				t.Error("the caller was not asked to leave")
			}
			time.Sleep(time.Hour)
		}
	})
}
