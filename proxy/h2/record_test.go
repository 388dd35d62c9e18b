package h2_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
)

// recorder is a Handler that writes down what happens. Body bytes that arrive in
// several calls are one event, so that a record does not depend on chunking.
type recorder struct {
	events  []string
	streams map[uint32]*h2.Stream
	wakes   int
	owner   func(s *h2.Stream, event string) // reacts to head, data, trailers; may be nil
	data    struct {
		id  uint32
		len int
	}
}

func newRecorder() *recorder { return &recorder{streams: map[uint32]*h2.Stream{}} }

func (r *recorder) add(format string, args ...any) {
	r.flush(false)
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) flush(end bool) {
	if r.data.len > 0 || end {
		line := fmt.Sprintf("data %d %d", r.data.id, r.data.len)
		if end {
			line += " end"
		}
		r.events = append(r.events, line)
		r.data.len = 0
	}
}

func (r *recorder) take() []string {
	r.flush(false)
	e := r.events
	r.events = nil
	return e
}

func (r *recorder) react(s *h2.Stream, event string) {
	if r.owner != nil {
		r.owner(s, event)
	}
}

func (r *recorder) OnHead(s *h2.Stream, head *field.List, end bool) {
	r.streams[s.ID()] = s
	note := ""
	if s.TooLarge {
		note = " too-large"
	}
	if end {
		note += " end"
	}
	r.add("head %d%s%s", s.ID(), listing(head), note)
	r.react(s, "head")
}

func (r *recorder) OnData(s *h2.Stream, p []byte, end bool) {
	if r.data.len > 0 && r.data.id != s.ID() {
		r.flush(false)
	}
	r.data.id = s.ID()
	r.data.len += len(p)
	if end {
		r.flush(true)
	}
	r.react(s, "data")
}

func (r *recorder) OnTrailers(s *h2.Stream, t *field.List) {
	r.add("trailers %d%s", s.ID(), listing(t))
	r.react(s, "trailers")
}

func (r *recorder) OnReset(s *h2.Stream, err error) {
	e, ok := errors.AsType[*h2.StreamError](err)
	if !ok {
		r.add("reset %d with a foreign error %v", s.ID(), err)
		return
	}
	var note strings.Builder
	for _, f := range []struct {
		on   bool
		name string
	}{{e.Remote, "remote"}, {e.Unprocessed, "unprocessed"}, {e.ConnLost, "lost"}} {
		if f.on {
			note.WriteString(" " + f.name)
		}
	}
	if e.Reason != "" {
		note.WriteString(": " + e.Reason)
	}
	r.add("reset %d %v%s", s.ID(), e.Code, note.String())
	delete(r.streams, s.ID())
	s.Release()
}

func (r *recorder) OnSent(s *h2.Stream, n int) { r.add("sent %d %d", s.ID(), n) }
func (r *recorder) OnOutput(*h2.Conn)          { r.wakes++ }
func (r *recorder) OnSettings(*h2.Conn)        { r.add("settings") }
func (r *recorder) OnGoAway(*h2.Conn)          { r.add("goaway") }

// listing renders a list in the script's notation, cut where it is long.
func listing(l *field.List) string {
	var b strings.Builder
	for i := range l.Len() {
		if l.Name(i) == nil {
			continue
		}
		v := string(l.Value(i))
		if len(v) > 40 {
			v = fmt.Sprintf("(%d bytes)", len(v))
		}
		fmt.Fprintf(&b, " %s=%s", l.Name(i), v)
	}
	return b.String()
}
