package console

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func start(t *testing.T, addr string, h http.Handler, log io.Writer) *Server {
	t.Helper()
	s, err := Listen(t.Context(), addr, h, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return s
}

func fetch(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(body)
}

func TestServerAnswersOverASocket(t *testing.T) {
	var log bytes.Buffer
	s := start(t, "127.0.0.1:0", New(sample()), &log)
	if code, body := fetch(t, s, "/ready"); code != 200 || body != "LIVE\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	if code, body := fetch(t, s, "/explain?tenant=t-7"); code != 200 || !strings.Contains(body, "└─ verdict") {
		t.Errorf("explain: %d %q", code, body)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if log.Len() != 0 {
		t.Errorf("log %q, want nothing to be said", &log)
	}
}

func TestPortInUseSaysWhereAndWhatNext(t *testing.T) {
	s := start(t, "127.0.0.1:0", New(sample()), io.Discard)
	addr := s.Addr().String()
	_, err := Listen(t.Context(), addr, New(sample()), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("two consoles on one port")
	}
	for _, want := range []string{"console: ", addr, "address already in use", "another admin address"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestShutdownLetsAnswersFinish(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := start(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		_, _ = io.WriteString(w, "whole")
	}), io.Discard)
	var answer, stop sync.WaitGroup
	answer.Go(func() {
		if code, body := fetch(t, s, "/"); code != 200 || body != "whole" {
			t.Errorf("answer %d %q", code, body)
		}
	})
	<-asked
	stop.Go(func() {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	close(release)
	answer.Wait()
	stop.Wait()
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := start(t, "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}), io.Discard)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String(), nil)
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
			t.Error("an answer that never came was answered")
		}
	}()
	<-asked
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(over); err == nil {
		t.Error("Shutdown cut a connection without saying so")
	}
	<-ended
	close(release)
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false,
	} {
		if got := loopback(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	if !loopback(&net.UnixAddr{Name: "/run/console", Net: "unix"}) {
		t.Error("a Unix socket passes for reachable from other hosts")
	}
	if loopback(&net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}) {
		t.Error("what has no port passes for loopback")
	}
}
