package h1

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

// recorder writes down events, one a line, and joins adjacent body bytes.
type recorder struct {
	log     []string
	body    []byte // not yet in log
	joining bool
	outputs int
	idle    int
	s       *Stream
	err     *StreamError

	onHead  func(s *Stream, head *field.List, end bool)
	onData  func(s *Stream, p []byte, end bool)
	onEnd   func(s *Stream)
	onTrail func(t *field.List)
	onSent  func(s *Stream, n int)
}

func (r *recorder) flush() {
	if r.joining {
		r.log = append(r.log, fmt.Sprintf("data %q", r.body))
		r.body, r.joining = nil, false
	}
}

func (r *recorder) add(format string, a ...any) {
	r.flush()
	r.log = append(r.log, fmt.Sprintf(format, a...))
}

func (r *recorder) text() string {
	r.flush()
	return strings.Join(r.log, "\n")
}

func listText(l *field.List) string {
	var b strings.Builder
	for i := range l.Len() {
		if l.Name(i) != nil {
			fmt.Fprintf(&b, " %s=%q", l.Name(i), l.Value(i))
		}
	}
	return b.String()
}

func (r *recorder) OnHead(s *Stream, head *field.List, end bool) {
	r.s = s
	what := "head"
	if s.TooLarge {
		what = "too-large"
	}
	if s.Upgrade != "" {
		what += " upgrade=" + s.Upgrade
	}
	r.add("%s%s end=%v", what, listText(head), end)
	if r.onHead != nil {
		r.onHead(s, head, end)
	}
	if end && r.onEnd != nil {
		r.onEnd(s)
	}
}

func (r *recorder) OnData(s *Stream, p []byte, end bool) {
	r.body = append(r.body, p...)
	r.joining = r.joining || len(p) > 0
	if end {
		r.add("end")
	}
	if r.onData != nil {
		r.onData(s, p, end)
	}
	if end && r.onEnd != nil {
		r.onEnd(s)
	}
}

func (r *recorder) OnTrailers(s *Stream, t *field.List) {
	r.add("trailers%s", listText(t))
	if r.onTrail != nil {
		r.onTrail(t)
	}
	if r.onEnd != nil {
		r.onEnd(s)
	}
}

func (r *recorder) OnReset(_ *Stream, err error) {
	r.err, _ = errors.AsType[*StreamError](err)
	r.add("reset %v", err)
}

func (r *recorder) OnSent(s *Stream, n int) {
	if r.onSent != nil {
		r.onSent(s, n)
	}
}
func (r *recorder) OnOutput(*Conn) { r.outputs++ }
func (r *recorder) OnIdle(*Conn)   { r.idle++; r.add("idle") }

// fields makes a list of alternating names and values.
func fields(kv ...string) *field.List {
	var l field.List
	for i := 0; i < len(kv); i += 2 {
		l.Add(kv[i], kv[i+1])
	}
	return &l
}

func take(c *Conn) string {
	out := string(c.TakeOutput(nil))
	c.Backlog(0)
	return out
}

// reply200 is an onEnd that answers and lets go.
func reply200(s *Stream) {
	s.WriteHead(fields(":status", "200"), true)
	s.Release()
}

func feed(t *testing.T, c *Conn, in string) {
	t.Helper()
	if err := c.Feed(0, []byte(in)); err != nil {
		t.Fatalf("Feed(%q): %v", in, err)
	}
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// newServer returns a server connection whose owner answers 200 at each
// request's end.
func newServer(cfg Config) (*Conn, *recorder) {
	r := &recorder{onEnd: reply200}
	return NewServer(cfg, r), r
}

// newClient returns a client connection with the request already written.
func newClient(t *testing.T, cfg Config, method string) (*Conn, *recorder, *Stream) {
	t.Helper()
	r := &recorder{onEnd: func(s *Stream) { s.Release() }}
	c := NewClient(cfg, r)
	return c, r, request(t, c, method)
}

func request(t *testing.T, c *Conn, method string) *Stream {
	t.Helper()
	s, err := c.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteHead(fields(":method", method, ":scheme", "http", ":authority", "a", ":path", "/"), true)
	return s
}
