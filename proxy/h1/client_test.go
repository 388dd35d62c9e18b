package h1

import (
	"errors"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

func TestRequestHeads(t *testing.T) {
	for _, v := range []struct {
		name, body string
		end        bool
		head       *field.List
		want       string
	}{
		{"GET", "", true, fields(":method", "GET", ":scheme", "http", ":authority", "a:1", ":path", "/x?y", "x", "1"), "GET /x?y HTTP/1.1\r\nhost: a:1\r\nx: 1\r\n\r\n"},
		{"POST empty", "", true, fields(":method", "POST", ":authority", "a", ":path", "/"), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
		{"DELETE empty", "", true, fields(":method", "DELETE", ":authority", "a", ":path", "/"), "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"POST length", "hi", false, fields(":method", "POST", ":authority", "a", ":path", "/", "content-length", "2"), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"},
		{"POST chunked", "hi", false, fields(":method", "POST", ":authority", "a", ":path", "/"), "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		{"te", "", true, fields(":method", "GET", ":authority", "a", ":path", "/", "te", "trailers", "connection", "x"), "GET / HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\n\r\n"},
		{"host instead of authority", "", true, fields(":method", "OPTIONS", ":path", "*", "host", "b"), "OPTIONS * HTTP/1.1\r\nhost: b\r\n\r\n"},
	} {
		t.Run(v.name, func(t *testing.T) {
			c := NewClient(Config{}, &recorder{})
			s, err := c.OpenStream("owner")
			if err != nil || s.Owner != "owner" {
				t.Fatal(s, err)
			}
			s.WriteHead(v.head, v.end)
			s.WriteData([]byte(v.body), true)
			wantText(t, "output", take(c), v.want)
		})
	}
}

func TestWhatCannotBeSentAborts(t *testing.T) {
	req := func(kv ...string) *field.List {
		return fields(append([]string{":method", "POST", ":authority", "a", ":path", "/"}, kv...)...)
	}
	for name, write := range map[string]func(s *Stream){
		"line end in a value":       func(s *Stream) { s.WriteHead(req("x", "a\r\nb: c"), true) },
		"line end in a name":        func(s *Stream) { s.WriteHead(req("x\r\n", "a"), true) },
		"no method":                 func(s *Stream) { s.WriteHead(fields(":path", "/"), true) },
		"method with a space":       func(s *Stream) { s.WriteHead(fields(":method", "GET /", ":path", "/"), true) },
		"path with a space":         func(s *Stream) { s.WriteHead(fields(":method", "GET", ":path", "/ HTTP/1.1"), true) },
		"path with a line end":      func(s *Stream) { s.WriteHead(fields(":method", "GET", ":path", "/\r\n"), true) },
		"authority with a line end": func(s *Stream) { s.WriteHead(fields(":method", "GET", ":path", "/", ":authority", "a\r\n"), true) },
		"connect":                   func(s *Stream) { s.WriteHead(fields(":method", "CONNECT", ":authority", "a"), true) },
		"length not a number":       func(s *Stream) { s.WriteHead(req("content-length", "x"), false) },
		"length twice":              func(s *Stream) { s.WriteHead(req("content-length", "1", "content-length", "1"), false) },
		"end before length":         func(s *Stream) { s.WriteHead(req("content-length", "1"), true) },
		"body too short":            func(s *Stream) { s.WriteHead(req("content-length", "2"), false); s.WriteData([]byte("x"), true) },
		"body too long":             func(s *Stream) { s.WriteHead(req("content-length", "2"), false); s.WriteData([]byte("xyz"), false) },
		"body before head":          func(s *Stream) { s.WriteData([]byte("x"), false) },
		"trailer with a line end":   func(s *Stream) { s.WriteHead(req(), false); s.WriteTrailers(fields("x", "a\nb")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			c := NewClient(Config{}, r)
			s, err := c.OpenStream(nil)
			if err != nil {
				t.Fatal(err)
			}
			write(s)
			if r.err == nil || r.err.Code != InternalError || !c.Aborted() || !c.Closing() || c.Active() != 0 {
				t.Fatalf("err %v, Aborted %v, Closing %v, Active %d", r.err, c.Aborted(), c.Closing(), c.Active())
			}
			s.WriteData([]byte("x"), true)
			s.Reset(Cancel)
			if out := take(c); strings.Contains(out, "\nb") || strings.Contains(out, "x") && strings.HasPrefix(name, "body too long") {
				t.Fatalf("output %q", out)
			}
			s.Release()
			if c.CanOpen() {
				t.Fatal("CanOpen after an abort")
			}
		})
	}
	r := &recorder{}
	c := NewServer(Config{}, r)
	feed(t, c, get)
	r.s.WriteHead(fields(":status", "20"), true)
	if r.err == nil || take(c) != "" || !c.Aborted() {
		t.Fatalf("a bad status was sent: %v", r.err)
	}
}

func TestClientConnectionIsReused(t *testing.T) {
	c, r, s := newClient(t, Config{}, "GET")
	if _, err := c.OpenStream(nil); !errors.Is(err, ErrBusy) || c.CanOpen() {
		t.Fatalf("second OpenStream: %v", err)
	}
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	if r.idle != 1 || !c.CanOpen() || c.Active() != 0 {
		t.Fatalf("idle %d, CanOpen %v, Active %d", r.idle, c.CanOpen(), c.Active())
	}
	if s2 := request(t, c, "GET"); s2 != s {
		t.Fatal("the stream was not reused")
	}
	feed(t, c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if r.idle != 1 || c.CanOpen() || !c.Closing() {
		t.Fatalf("after connection: close: idle %d, CanOpen %v", r.idle, c.CanOpen())
	}
	if _, err := c.OpenStream(nil); !errors.Is(err, ErrGoingAway) {
		t.Fatalf("OpenStream: %v", err)
	}
}

// An upload that was answered before its end may wait for a reader who never
// comes: what is left of it is not sent.
func TestClientBreaksOffAnAnsweredUpload(t *testing.T) {
	for _, keep := range []string{"", "Connection: close\r\n"} {
		r := new(recorder)
		c := NewClient(Config{}, r)
		s, err := c.OpenStream(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.WriteHead(fields(":method", "POST", ":authority", "a", ":path", "/", "content-length", "10"), false)
		s.WriteData([]byte("half "), false)
		take(c)
		feed(t, c, "HTTP/1.1 413 Too Large\r\n"+keep+"Content-Length: 0\r\n\r\n")
		take(c)
		outputs := r.outputs
		s.Release()
		if !c.Aborted() || !c.Closing() || r.outputs == outputs {
			t.Errorf("%q: aborted %v, closing %v, told its driver %v; want all", keep, c.Aborted(), c.Closing(), r.outputs > outputs)
		}
	}
}

func TestClientTakesNothingItDidNotAskFor(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	c, r, _ := newClient(t, Config{}, "GET")
	feed(t, c, ok+ok)
	if r.idle != 0 || !c.Closing() || c.CanOpen() {
		t.Fatal("a connection that brought two responses was kept")
	}
	c, r, _ = newClient(t, Config{}, "GET")
	feed(t, c, ok)
	if err := c.Feed(0, []byte("H")); err == nil || r.idle != 1 || !c.Closing() {
		t.Fatalf("bytes on an idle connection: %v", err)
	}
	c = NewClient(Config{}, r)
	if _, err := c.OpenStream(nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Feed(0, []byte("H")); err == nil || r.err == nil || !r.err.Unprocessed {
		t.Fatalf("response before the request: %v, %v", err, r.err)
	}
}

func TestLostConnections(t *testing.T) {
	c, r, _ := newClient(t, Config{}, "GET")
	c.FeedEOF()
	if r.err == nil || !r.err.ConnLost || r.err.Unprocessed {
		t.Fatalf("new connection: %+v", r.err)
	}
	c, r, _ = newClient(t, Config{}, "GET")
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	request(t, c, "GET")
	c.FeedEOF()
	if r.err == nil || !r.err.ConnLost || !r.err.Unprocessed {
		t.Fatalf("reused connection: %+v", r.err)
	}
	c, r, _ = newClient(t, Config{}, "GET")
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	request(t, c, "GET")
	feed(t, c, "H")
	c.FeedEOF()
	if r.err == nil || r.err.Unprocessed {
		t.Fatalf("reused connection, one byte of a response: %+v", r.err)
	}
	r = &recorder{}
	c = NewServer(Config{}, r)
	feed(t, c, get)
	c.FeedEOF()
	c.FeedEOF()
	if r.err == nil || !r.err.ConnLost || len(r.log) != 2 || !c.Closing() {
		t.Fatalf("server: %v", r.log)
	}
	r.s.WriteHead(fields(":status", "200"), true)
	r.s.Release()
	wantText(t, "output after the caller left", take(c), "")
}

func TestResponseBeforeTheRequestIsWritten(t *testing.T) {
	r := &recorder{}
	c := NewClient(Config{OutputLimit: 100}, r)
	s, err := c.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteHead(fields(":method", "POST", ":authority", "a", ":path", "/"), false)
	s.WriteData(make([]byte, 1000), false)
	feed(t, c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if !s.ReadEnded() || !c.Closing() || c.Aborted() || s.Buffered() != 0 {
		t.Fatalf("ReadEnded %v, Closing %v, Buffered %d", s.ReadEnded(), c.Closing(), s.Buffered())
	}
	if n := s.WriteData(make([]byte, 1000), true); n != 1000 {
		t.Fatalf("the rest of the request should be swallowed, sent %d", n)
	}
	c.FeedEOF()
	s.Release()
	wantText(t, "events", r.text(), `head :status="413" content-length="0" end=true`)
}
