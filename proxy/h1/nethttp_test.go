package h1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

// driver moves bytes between a Conn and a net.Conn; its goroutine owns the Conn.
type driver struct {
	c    *Conn
	nc   net.Conn
	do   chan func()
	done chan struct{}
}

func drive(c *Conn, nc net.Conn) *driver {
	d := &driver{c: c, nc: nc, do: make(chan func()), done: make(chan struct{})}
	go d.loop()
	return d
}

func (d *driver) loop() {
	defer close(d.done)
	reads, more, writes, wrote := make(chan []byte), make(chan struct{}, 1), make(chan []byte), make(chan int)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(writes)
	defer close(more)
	defer d.nc.Close()
	wg.Go(func() {
		defer close(reads)
		buf := make([]byte, 4096)
		for range more {
			n, err := d.nc.Read(buf)
			if n > 0 {
				reads <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for p := range writes {
			if _, err := d.nc.Write(p); err != nil {
				p = nil
			}
			wrote <- len(p)
		}
	})
	drain := func() { // lets the two goroutines end
		go func() {
			for range reads {
			}
		}()
	}
	var queue []byte
	asked, busy, backlog := false, 0, 0
	for {
		d.c.Backlog(backlog) // may add output
		out := d.c.TakeOutput(nil)
		queue = append(queue, out...)
		backlog += len(out)
		if d.c.Closing() && backlog == 0 || d.c.Aborted() {
			drain()
			if busy > 0 {
				d.nc.Close()
				<-wrote
			}
			return
		}
		if !asked && d.c.Reading() {
			asked = true
			more <- struct{}{}
		}
		var send chan []byte
		if busy == 0 && len(queue) > 0 {
			send = writes
		}
		select {
		case p, ok := <-reads:
			asked = false
			if !ok {
				d.c.FeedEOF()
				drain()
				if busy > 0 {
					d.nc.Close()
					<-wrote
				}
				return
			}
			if err := d.c.Feed(0, p); err != nil {
				continue // the answer is in the output, Closing is set
			}
		case send <- queue:
			busy, queue = len(queue), nil
		case n := <-wrote:
			if n == 0 {
				n = busy
			}
			backlog, busy = backlog-n, 0
		case f := <-d.do:
			f()
		}
	}
}

// echo answers with the request's method, path, body and trailers.
type echo struct {
	recorder
	info string
	got  []byte
}

func newEcho() *echo {
	e := &echo{}
	e.onHead = func(_ *Stream, head *field.List, _ bool) {
		e.info, e.got = string(head.Get(":method"))+" "+string(head.Get(":path")), nil
	}
	e.onData = func(s *Stream, p []byte, _ bool) {
		e.got = append(e.got, p...)
		e.body = nil
		s.Consume(len(p))
	}
	e.onTrail = func(t *field.List) { e.info += " sum " + string(t.Get("x-sum")) }
	e.onEnd = func(s *Stream) {
		s.WriteHead(fields(":status", "200", "x-info", e.info), false)
		s.WriteData(e.got, false)
		s.WriteTrailers(fields("x-length", strconv.Itoa(len(e.got))))
		s.Release()
	}
	return e
}

func TestServerWithNetHTTPClient(t *testing.T) {
	var drivers []*driver
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		drivers = append(drivers, drive(NewServer(Config{OutputLimit: 8 << 10}, newEcho()), b))
		return a, nil
	}}
	do := func(method, path string, body io.Reader, trailer http.Header, expect bool) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://a"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = trailer
		if expect {
			req.Header.Set("Expect", "100-continue")
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(got)
	}
	large := strings.Repeat("0123456789abcdef", 10<<16)
	for _, v := range []struct {
		method, path string
		body         io.Reader
		trailer      http.Header
		expect       bool
		info, want   string
	}{
		{"GET", "/a?b=c", nil, nil, false, "GET /a?b=c", ""},
		{"HEAD", "/", nil, nil, false, "HEAD /", ""},
		{"POST", "/", strings.NewReader("hello"), nil, false, "POST /", "hello"},
		{"POST", "/", strings.NewReader("hello"), nil, true, "POST /", "hello"},
		{"POST", "/", io.MultiReader(strings.NewReader("hello")), http.Header{"X-Sum": {"7"}}, false, "POST / sum 7", "hello"},
		{"PUT", "/large", strings.NewReader(large), nil, false, "PUT /large", large},
		{"PUT", "/large", io.MultiReader(strings.NewReader(large)), nil, false, "PUT /large", large},
	} {
		resp, got := do(v.method, v.path, v.body, v.trailer, v.expect) //nolint:bodyclose // do has read and closed it
		if resp.StatusCode != http.StatusOK || got != v.want || resp.Header.Get("X-Info") != v.info {
			t.Errorf("%s %s: %s, info %q, %d bytes", v.method, v.path, resp.Status, resp.Header.Get("X-Info"), len(got))
		}
		if n := strconv.Itoa(len(got)); v.method != "HEAD" && resp.Trailer.Get("X-Length") != n {
			t.Errorf("%s %s: trailers %v", v.method, v.path, resp.Trailer)
		}
	}
	if len(drivers) != 1 {
		t.Errorf("%d connections were used, want 1", len(drivers))
	}
	tr.CloseIdleConnections()
	for _, d := range drivers {
		<-d.done
	}
}

// pipeListener accepts the far ends of pipes.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	nc, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestClientWithNetHTTPServer(t *testing.T) {
	l := make(pipeListener, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Info", r.Method+" "+r.Host+r.RequestURI+r.Trailer.Get("X-Sum"))
		switch r.URL.Path {
		case "/hint":
			w.WriteHeader(http.StatusEarlyHints)
		case "/none":
			w.WriteHeader(http.StatusNoContent)
			return
		case "/length":
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		case "/close":
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Trailer", "X-Length")
		_, _ = w.Write(body)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Length", strconv.Itoa(len(body)))
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	a, b := net.Pipe()
	l <- b

	r := &recorder{}
	ended := make(chan string, 1)
	var info string
	var got bytes.Buffer
	hints := 0
	r.onHead = func(_ *Stream, head *field.List, _ bool) {
		info = string(head.Get(":status")) + " " + string(head.Get("x-info"))
		if info[0] == '1' {
			hints++
		}
	}
	r.onData = func(s *Stream, p []byte, _ bool) {
		r.body = nil
		got.Write(p)
		s.Consume(len(p))
	}
	r.onTrail = func(l *field.List) { info += " length " + string(l.Get("x-length")) }
	r.onEnd = func(s *Stream) { s.Release(); ended <- info }
	c := NewClient(Config{OutputLimit: 8 << 10}, r)
	d := drive(c, a)
	large := strings.Repeat("0123456789abcdef", 10<<16)
	for _, v := range []struct{ method, path, body, sum, want string }{
		{"GET", "/", "", "", "200 GET a/ length 0"},
		{"HEAD", "/length", "", "", "200 HEAD a/length"},
		{"POST", "/", "hello", "", "200 POST a/ length 5"},
		{"POST", "/length", "hello", "", "200 POST a/length"},
		{"POST", "/", "hello", "7", "200 POST a/7 length 5"},
		{"GET", "/hint", "", "", "200 GET a/hint length 0"},
		{"GET", "/none", "", "", "204 GET a/none"},
		{"PUT", "/", large, "", "200 PUT a/ length " + strconv.Itoa(len(large))},
		{"PUT", "/length", large, "", "200 PUT a/length"},
		{"GET", "/close", "", "", "200 GET a/close length 0"},
	} {
		d.do <- func() {
			got.Reset()
			s, err := c.OpenStream(nil)
			if err != nil {
				t.Errorf("%s %s: %v", v.method, v.path, err)
				ended <- ""
				return
			}
			head := fields(":method", v.method, ":scheme", "http", ":authority", "a", ":path", v.path)
			if v.path == "/length" {
				head.AddInt("content-length", int64(len(v.body)))
			}
			if v.sum != "" {
				head.Add("trailer", "x-sum")
			}
			s.WriteHead(head, v.body == "")
			s.WriteData([]byte(v.body), v.sum == "")
			s.WriteTrailers(fields("x-sum", v.sum))
		}
		if info := <-ended; info != v.want {
			t.Errorf("%s %s: %q, want %q", v.method, v.path, info, v.want)
		}
		if v.method != "HEAD" && got.String() != v.body {
			t.Errorf("%s %s: %d bytes came back, want %d", v.method, v.path, got.Len(), len(v.body))
		}
	}
	<-d.done // the server closes after /close
	if hints != 1 {
		t.Errorf("%d hints, want 1", hints)
	}
	close(l)
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
