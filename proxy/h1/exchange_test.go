package h1

import (
	"errors"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestPipelinedRequestsWaitForTheirTurn(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{}, r)
	feed(t, c, strings.ReplaceAll(get, "/ ", "/1 ")+strings.ReplaceAll(get, "/ ", "/2 ")+"GET /3")
	if len(r.log) != 1 || c.Reading() {
		t.Fatalf("after three requests: %d events, Reading %v; want 1 and false", len(r.log), c.Reading())
	}
	r.s.WriteHead(fields(":status", "200"), true)
	if len(r.log) != 1 {
		t.Fatal("the second request came before the first was released")
	}
	r.s.Release()
	if len(r.log) != 2 || !strings.Contains(r.log[1], `"/2"`) {
		t.Fatalf("after Release: %v", r.log)
	}
	r.s.WriteHead(fields(":status", "404"), true)
	r.s.Release()
	if !c.Reading() {
		t.Fatal("Reading is false with half a request in hand")
	}
	feed(t, c, " HTTP/1.1\r\nHost: a\r\n\r\n")
	if len(r.log) != 3 || !strings.Contains(r.log[2], `"/3"`) {
		t.Fatalf("after the rest of the third: %v", r.log)
	}
	wantText(t, "output", take(c), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
}

func TestCallerThatDoesNotReadGetsNoMoreRequestsServed(t *testing.T) {
	c, r := newServer(Config{OutputLimit: 1000})
	feed(t, c, strings.Repeat(get, 500))
	if n := len(r.log); n < 10 || n > 40 || c.Reading() {
		t.Fatalf("%d requests served with 1,000 bytes of room, Reading %v", n, c.Reading())
	}
	out := c.TakeOutput(nil)
	c.Backlog(len(out))
	if c.Reading() || len(out) > 1100 {
		t.Fatalf("Reading %v with %d bytes not accepted by the kernel", c.Reading(), len(out))
	}
	for range 50 {
		c.TakeOutput(nil)
		c.Backlog(0)
	}
	if n := len(r.log); n != 500 || !c.Reading() {
		t.Fatalf("%d of 500 requests served in the end, Reading %v", n, c.Reading())
	}
}

func TestExpectContinue(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
	t.Run("no answer yet", func(t *testing.T) {
		c, _ := newServer(Config{})
		feed(t, c, head)
		wantText(t, "before the body", take(c), "HTTP/1.1 100 Continue\r\n\r\n")
		feed(t, c, "hi")
		wantText(t, "after the body", take(c), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
	})
	t.Run("final answer at once", func(t *testing.T) {
		r := &recorder{onHead: func(s *Stream, _ *field.List, _ bool) {
			s.WriteHead(fields(":status", "403"), true)
			s.Release()
		}}
		c := NewServer(Config{}, r)
		feed(t, c, head)
		wantText(t, "output", take(c), "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
		if !c.Closing() || c.Aborted() {
			t.Fatalf("Closing %v, Aborted %v: whether the body comes is unknown", c.Closing(), c.Aborted())
		}
	})
}

// A reply with a body of its own that is all there ends the connection as an empty
// one does, and says so.
func TestWholeReplyBeforeTheBodyAnnouncesTheClose(t *testing.T) {
	const length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
	for in, closes := range map[string]bool{length: true, length + "h": true, length + "hi": false} {
		r := &recorder{onHead: func(s *Stream, _ *field.List, _ bool) {
			s.Whole()
			s.WriteHead(fields(":status", "404", "content-length", "3"), false)
			s.WriteData([]byte("no\n"), true)
			s.Release()
		}}
		c := NewServer(Config{}, r)
		feed(t, c, in)
		if said := strings.Contains(take(c), "connection: close"); said != closes || c.Closing() != closes || c.Aborted() {
			t.Errorf("%q: said %v, closing %v, aborted %v; want the close %v", in, said, c.Closing(), c.Aborted(), closes)
		}
	}
}

func TestEarlyReply(t *testing.T) {
	early := func(in string) (*Conn, *recorder) {
		r := &recorder{onHead: func(s *Stream, _ *field.List, _ bool) {
			s.WriteHead(fields(":status", "413"), true)
			s.Release()
		}}
		c := NewServer(Config{}, r)
		feed(t, c, in)
		return c, r
	}
	c, _ := early("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + get)
	if c.Closing() || strings.Count(take(c), "413") != 2 {
		t.Fatal("the rest of the request was in hand: the connection should go on")
	}
	c, r := early("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi")
	if !c.Closing() || c.Aborted() || !strings.Contains(take(c), "connection: close") {
		t.Fatal("the rest of the request was missing: want an announced close")
	}
	feed(t, c, "x"+get)
	if len(r.log) != 1 {
		t.Fatalf("input after the end was served: %v", r.log)
	}
}

func TestResponseHeads(t *testing.T) {
	for _, v := range []struct {
		name, in string
		head     *field.List
		body     string
		want     string
	}{
		{"length", get, fields(":status", "200", "content-length", "2"), "hi", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"},
		{"chunked", get, fields(":status", "200"), "hi", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		{"http10", "GET / HTTP/1.0\r\n\r\n", fields(":status", "200"), "hi", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi"},
		{"http10 length", "GET / HTTP/1.0\r\n\r\n", fields(":status", "200", "content-length", "2"), "hi", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"},
		{"asked to close", strings.Replace(get, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), fields(":status", "200", "content-length", "2"), "hi", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"},
		{"HEAD", strings.Replace(get, "GET", "HEAD", 1), fields(":status", "200", "content-length", "2"), "hi", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"},
		{"HEAD unknown", strings.Replace(get, "GET", "HEAD", 1), fields(":status", "200"), "", "HTTP/1.1 200 OK\r\n\r\n"},
		{"204", get, fields(":status", "204", "content-length", "0"), "", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304", get, fields(":status", "304", "content-length", "2"), "hi", "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n"},
		{"unknown status", get, fields(":status", "299", "content-length", "0"), "", "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"},
		{"hop-by-hop left out", get, fields(":status", "200", "connection", "x", "keep-alive", "y", "transfer-encoding", "chunked", "upgrade", "z", "te", "trailers", "content-length", "0", "x", "1"), "", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: 1\r\n\r\n"},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := &recorder{}
			c := NewServer(Config{}, r)
			feed(t, c, v.in)
			r.s.WriteHead(v.head, false)
			if n := r.s.WriteData([]byte(v.body), false); n != len(v.body) {
				t.Fatalf("WriteData sent %d of %d", n, len(v.body))
			}
			if r.s.WriteEnded() {
				t.Fatal("WriteEnded before the end")
			}
			r.s.WriteData(nil, true)
			if !r.s.WriteEnded() || r.s.Buffered() != 0 {
				t.Fatalf("WriteEnded %v, Buffered %d", r.s.WriteEnded(), r.s.Buffered())
			}
			r.s.Release()
			wantText(t, "output", take(c), v.want)
			if want := strings.Contains(v.want, "connection: close"); c.Closing() != want || c.Aborted() {
				t.Fatalf("Closing %v, Aborted %v; want %v, false", c.Closing(), c.Aborted(), want)
			}
		})
	}
}

func TestHintsGoOnlyToHTTP11Callers(t *testing.T) {
	for in, want := range map[string]string{
		get:                      "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n": "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
	} {
		r := &recorder{}
		c := NewServer(Config{}, r)
		feed(t, c, in)
		r.s.WriteHead(fields(":status", "103", "link", "x"), false)
		r.s.WriteHead(fields(":status", "200"), true)
		r.s.WriteHead(fields(":status", "500"), true)
		wantText(t, "output", take(c), want)
	}
}

func TestTooLargeHeadIsTheOwnersToAnswer(t *testing.T) {
	r := &recorder{onHead: func(s *Stream, head *field.List, _ bool) {
		if !s.TooLarge || string(head.Get(":path")) != "/big" {
			t.Errorf("TooLarge %v, head%s", s.TooLarge, listText(head))
		}
		s.WriteHead(fields(":status", "431"), true)
		s.Release()
	}}
	c := NewServer(Config{MaxHeaderBytes: 200}, r)
	feed(t, c, "GET /big HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 1000)+"\r\n\r\n"+get)
	wantText(t, "output", take(c), "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
	if !c.Closing() || len(r.log) != 1 {
		t.Fatalf("Closing %v, events %v", c.Closing(), r.log)
	}
}

func TestResetNeverLooksLikeAnEnd(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{}, r)
	feed(t, c, get)
	r.s.WriteHead(fields(":status", "200"), false)
	r.s.WriteData([]byte("hi"), false)
	r.s.Reset(InternalError)
	if out := take(c); strings.HasSuffix(out, "0\r\n\r\n") || !c.Aborted() || !c.Closing() || c.Active() != 0 {
		t.Fatalf("output %q, Aborted %v", out, c.Aborted())
	}
	r.s.Release()
	r = &recorder{}
	c = NewServer(Config{}, r)
	feed(t, c, get)
	r.s.Release() // without an answer
	if !c.Aborted() || take(c) != "" {
		t.Fatal("a request released without an answer should be aborted")
	}
	c, r, s := newClient(t, Config{}, "GET")
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
	s.Reset(Cancel)
	s.Release()
	if !c.Aborted() || !c.Closing() || r.idle != 0 || r.err != nil {
		t.Fatalf("client: Aborted %v, idle %d, err %v", c.Aborted(), r.idle, r.err)
	}
	feed(t, c, "abc")
	wantText(t, "events", r.text(), "head :status=\"200\" content-length=\"5\" end=false\ndata \"hi\"")
	c, r, s = newClient(t, Config{}, "GET")
	r.onEnd = nil
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	s.Reset(Cancel) // the exchange is over: nothing to abort
	s.Release()
	if c.Aborted() || r.idle != 1 {
		t.Fatal("Reset after the end harmed the connection")
	}
}

func TestShutdown(t *testing.T) {
	c, r := newServer(Config{})
	c.Shutdown(false)
	if c.Closing() {
		t.Fatal("an idle connection may be about to bring a request")
	}
	feed(t, c, get)
	if !strings.Contains(take(c), "connection: close") || !c.Closing() || len(r.log) != 1 {
		t.Fatal("the next response should close the connection")
	}
	c, _ = newServer(Config{})
	feed(t, c, get[:10])
	c.Shutdown(true)
	if c.Closing() {
		t.Fatal("half a request is in hand: it must be served")
	}
	feed(t, c, get[10:])
	if !strings.Contains(take(c), "connection: close") || !c.Closing() {
		t.Fatal("the last response should close the connection")
	}
	c, _ = newServer(Config{})
	c.Shutdown(true)
	if !c.Closing() {
		t.Fatal("idle and final: should close")
	}
	c, r, _ = newClient(t, Config{}, "GET")
	c.Shutdown(false)
	if c.Closing() || c.CanOpen() {
		t.Fatal("the running exchange should end first")
	}
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	if !c.Closing() || r.idle != 0 || c.Aborted() {
		t.Fatal("client should close when its exchange is over")
	}
	c = NewClient(Config{}, r)
	c.Shutdown(false)
	if !c.Closing() {
		t.Fatal("idle client should close")
	}
}

func TestBadChunkAfterTheResponseBeganCutsItOff(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{}, r)
	feed(t, c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
	r.s.WriteHead(fields(":status", "200"), false)
	r.s.WriteData([]byte("hi"), false)
	err := c.Feed(0, []byte("x\r\n"))
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Error() != "chunk 2: chunk size is not a hexadecimal number" || !c.Aborted() || r.err.Code != ProtocolError {
		t.Fatalf("error %v, Aborted %v, reset %v", err, c.Aborted(), r.err)
	}
	wantText(t, "output", take(c), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
	if again := c.Feed(0, []byte(get)); !errors.Is(again, err) {
		t.Fatalf("the error is not final: %v", again)
	}
	r.s.Release()
	r.s.Release()
}

func TestResponseThatWouldChangeTheProtocolIsNotWritten(t *testing.T) {
	for status, end := range map[string]bool{"101": false, "103": true} {
		r := &recorder{}
		c := NewServer(Config{}, r)
		feed(t, c, get)
		r.s.WriteHead(fields(":status", status), end)
		if r.err == nil || take(c) != "" || !c.Aborted() {
			t.Fatalf("%s was written: %v", status, r.err)
		}
	}
}

func TestErrCodeNames(t *testing.T) {
	wantText(t, "name", ErrCode(HTTP11Required).String(), "HTTP_1_1_REQUIRED")
	wantText(t, "unknown", ErrCode(99).String(), "code 99")
}

func TestInputAfterATooLargeHeadIsThrownAway(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{MaxHeaderFields: 1}, r)
	feed(t, c, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n")
	feed(t, c, "\r\n"+get)
	if len(r.log) != 1 || !r.s.TooLarge || !c.Reading() || len(c.in) != 0 {
		t.Fatalf("events %v, Reading %v, %d bytes kept", r.log, c.Reading(), len(c.in))
	}
	r.s.WriteHead(fields(":status", "431", "x", "a\r\nb"), true)
	if r.err == nil || take(c) != "" {
		t.Fatalf("a line end in a response's field was sent: %v", r.err)
	}
}
