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
		l.shard.Post(&newDownConn(l, far).arrive) // accepted just before the listener closed
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
