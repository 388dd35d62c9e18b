package h2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
)

// mirror serves: it answers with the request's body and a trailer that tells the
// request's method and path.
type mirror struct{ recorder }

type mirrored struct{ line string }

func (m *mirror) OnHead(s *h2.Stream, head *field.List, end bool) {
	line := fmt.Sprintf("%s %s", head.Get(":method"), head.Get(":path"))
	s.Owner = &mirrored{line: line}
	var l field.List
	if string(head.Get(":path")) == "/early" {
		l.Add(":status", "413")
		s.WriteHead(&l, true)
		s.Release()
		return
	}
	l.Add(":status", "103")
	l.Add("link", "</x>")
	s.WriteHead(&l, false)
	l.Reset()
	l.Add(":status", "200")
	l.Add("trailer", "x-line")
	s.WriteHead(&l, false)
	if end {
		m.finish(s)
	}
}

func (m *mirror) finish(s *h2.Stream) {
	var l field.List
	l.Add("x-line", s.Owner.(*mirrored).line)
	s.WriteTrailers(&l)
	s.Release()
}

func (m *mirror) OnData(s *h2.Stream, p []byte, end bool) {
	s.Consume(s.WriteData(p, false))
	if end {
		m.finish(s)
	}
}

func (m *mirror) OnSent(s *h2.Stream, n int)             { s.Consume(n) }
func (m *mirror) OnTrailers(s *h2.Stream, _ *field.List) { m.finish(s) }
func (m *mirror) OnReset(s *h2.Stream, _ error)          { s.Release() }
func (m *mirror) OnSettings(*h2.Conn)                    {}
func (m *mirror) OnGoAway(*h2.Conn)                      {}

// TestGoClient lets net/http's client talk to the server role.
func TestGoClient(t *testing.T) {
	ln := listen(t)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			drive(nc, h2.NewServer(h2.DefaultConfig(), &mirror{}))
		}
	}()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	url := "http://" + ln.Addr().String()

	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte('a' + i)}, i*50_000)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("%s/%d", url, i), bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			res, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("request %d: %d bytes of %d, %v", i, len(got), len(body), err)
			}
			if line := res.Trailer.Get("x-line"); line != fmt.Sprintf("POST /%d", i) {
				t.Errorf("request %d: trailer %q", i, line)
			}
		})
	}
	wg.Wait()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/early", io.LimitReader(endless{}, 10<<20))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("early reply: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("early reply: %v", res.Status)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// caller collects one exchange of the client role.
type caller struct {
	recorder
	body   bytes.Buffer
	status string
	line   string
	err    error
	done   chan struct{}
}

func (k *caller) OnHead(s *h2.Stream, head *field.List, end bool) {
	k.status = string(head.Get(":status"))
	if end {
		k.finish(s)
	}
}

func (k *caller) finish(s *h2.Stream) {
	s.Release()
	close(k.done)
}

func (k *caller) OnData(s *h2.Stream, p []byte, end bool) {
	k.body.Write(p)
	s.Consume(len(p))
	if end {
		k.finish(s)
	}
}

func (k *caller) OnTrailers(s *h2.Stream, t *field.List) {
	k.line = string(t.Get("x-line"))
	k.finish(s)
}

func (k *caller) OnReset(s *h2.Stream, err error) {
	k.err = err
	k.finish(s)
}

func (k *caller) OnSent(*h2.Stream, int) {}

// TestGoServer lets the client role talk to net/http's server.
func TestGoServer(t *testing.T) {
	ln := listen(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Line")
		if r.URL.Path == "/abort" {
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body) // the caller compares
		w.Header().Set("X-Line", r.Method+" "+r.URL.Path+" "+r.Host+" "+r.Trailer.Get("X-End"))
	})}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()

	call := func(path string, body []byte) *caller {
		nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		k := &caller{done: make(chan struct{})}
		c := h2.NewClient(h2.DefaultConfig(), k)
		d := drive(nc, c)
		d.do(func() {
			s, err := c.OpenStream(nil)
			if err != nil {
				t.Error(err)
				return
			}
			var l field.List
			l.Add(":method", "POST")
			l.Add(":scheme", "http")
			l.Add(":authority", "stats.test")
			l.Add(":path", path)
			l.Add("trailer", "x-end")
			s.WriteHead(&l, false)
			s.WriteData(body, false)
			l.Reset()
			l.Add("x-end", "over")
			s.WriteTrailers(&l)
		})
		<-k.done
		d.do(func() { c.Shutdown(true) })
		<-d.done
		return k
	}
	body := bytes.Repeat([]byte("0123456789"), 300_000)
	k := call("/echo", body)
	if k.err != nil || k.status != "200" || !bytes.Equal(k.body.Bytes(), body) || k.line != "POST /echo stats.test over" {
		t.Errorf("echo: %v, status %s, %d bytes, %q", k.err, k.status, k.body.Len(), k.line)
	}
	k = call("/abort", nil)
	if e, ok := errors.AsType[*h2.StreamError](k.err); !ok || !e.Remote || e.Code != h2.InternalError {
		t.Errorf("aborted handler: %v", k.err)
	}
}
