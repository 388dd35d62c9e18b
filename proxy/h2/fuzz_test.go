package h2_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
)

// wary is a recorder that checks the promises made to a Handler.
type wary struct {
	*recorder
	t     *testing.T
	ended map[*h2.Stream]bool
}

func (w *wary) live(s *h2.Stream, what string) {
	if w.ended[s] {
		w.t.Errorf("%s after the end of stream %d", what, s.ID())
	}
}

func (w *wary) OnHead(s *h2.Stream, head *field.List, end bool) {
	delete(w.ended, s) // the struct may be a recycled one
	w.recorder.OnHead(s, head, end)
}

func (w *wary) OnData(s *h2.Stream, p []byte, end bool) {
	w.live(s, "data")
	w.recorder.OnData(s, p, end)
	s.Consume(len(p))
}

func (w *wary) OnTrailers(s *h2.Stream, t *field.List) {
	w.live(s, "trailers")
	w.recorder.OnTrailers(s, t)
}

func (w *wary) OnSent(s *h2.Stream, _ int) { w.live(s, "sent") }

func (w *wary) OnReset(s *h2.Stream, err error) {
	w.live(s, "reset")
	w.ended[s] = true
	w.recorder.OnReset(s, err)
}

// feedAll feeds p in chunks, checks the output with x/net's Framer and returns
// the events and the error. waited says that a reply had to wait for a window: it
// moves when the engine rests, so that what is closed by then depends on the chunks.
func feedAll(t *testing.T, server bool, p []byte, chunk int) (events []string, waited bool, err error) {
	t.Helper()
	rec := newRecorder()
	w := &wary{recorder: rec, t: t, ended: map[*h2.Stream]bool{}}
	cfg := h2.DefaultConfig()
	cfg.MaxHeaderBytes = 4096
	cfg.StreamWindow = 1000
	cfg.OutputLimit = 1 << 20 // or what has room would depend on the chunks
	var reply field.List
	reply.Add(":status", "200")
	rec.owner = func(s *h2.Stream, event string) {
		if event != "head" || !server {
			return
		}
		switch s.ID() % 8 { // owners behave in different ways
		case 1:
			s.WriteHead(&reply, false)
			s.WriteData(make([]byte, 3000), true)
			waited = waited || s.Buffered() > 0
		case 3:
			s.WriteHead(&reply, true)
			delete(rec.streams, s.ID())
			w.ended[s] = true
			s.Release()
		case 5:
			s.WriteHead(&reply, false)
			s.WriteData(make([]byte, 10), false)
			s.WriteTrailers(&reply)
			waited = waited || s.Buffered() > 0
		}
	}
	var c *h2.Conn
	if server {
		c = h2.NewServer(cfg, w)
	} else {
		c = h2.NewClient(cfg, w)
		var head field.List
		head.Add(":method", "POST")
		head.Add(":scheme", "http")
		head.Add(":authority", "a")
		head.Add(":path", "/")
		for range 4 {
			s, err := c.OpenStream(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.WriteHead(&head, false)
			s.WriteData(make([]byte, 3000), true)
		}
	}
	var out []byte
	take := func() {
		for q := c.TakeOutput(nil); len(q) > 0; q = c.TakeOutput(nil) {
			out = append(out, q...)
			c.Backlog(0)
		}
	}
	for len(p) > 0 && err == nil {
		n := min(chunk, len(p))
		err = c.Feed(0, bytes.Clone(p[:n]))
		p = p[n:]
		take()
	}
	if err != nil {
		if !c.Closing() || c.Active() != 0 || c.Feed(0, []byte{0}) == nil {
			t.Errorf("after %v: closing %v, %d active", err, c.Closing(), c.Active())
		}
	}
	c.FeedEOF()
	if c.Active() != 0 {
		t.Errorf("%d streams after the end", c.Active())
	}
	take()
	if !server {
		out = bytes.TrimPrefix(out, []byte(h2.Preface))
	}
	fr := http2.NewFramer(nil, bytes.NewReader(out))
	for {
		if _, ferr := fr.ReadFrame(); ferr != nil {
			if ferr.Error() != "EOF" {
				t.Errorf("output: %v", ferr)
			}
			return rec.take(), waited, err
		}
	}
}

// compareChunks feeds p whole and byte by byte: the result must be the same,
// except where a window's update came earlier.
func compareChunks(t *testing.T, server bool, p []byte) {
	t.Helper()
	if len(p) > 1<<16 {
		return
	}
	one, waited1, err1 := feedAll(t, server, p, len(p)+1)
	two, waited2, err2 := feedAll(t, server, p, 1)
	if waited1 || waited2 {
		return
	}
	for _, e := range append(slices.Clone(one), two...) {
		if strings.Contains(e, h2.FlowControlError.String()) {
			return
		}
	}
	if flow(err1) || flow(err2) {
		return
	}
	if (err1 == nil) != (err2 == nil) || err1 != nil && err1.Error() != err2.Error() {
		t.Errorf("whole: %v, byte by byte: %v", err1, err2)
	}
	if !slices.Equal(one, two) {
		t.Errorf("whole:\n%s\nbyte by byte:\n%s", strings.Join(one, "\n"), strings.Join(two, "\n"))
	}
}

func flow(err error) bool {
	e, ok := errors.AsType[*h2.ConnError](err)
	return ok && (e.Code == h2.FlowControlError || e.Code == h2.EnhanceYourCalm)
}

// FuzzServerFeed feeds what follows a client's preface.
func FuzzServerFeed(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte) {
		compareChunks(t, true, append([]byte(h2.Preface), p...))
	})
}

// FuzzClientFeed feeds what a server may send to four open requests.
func FuzzClientFeed(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte) { compareChunks(t, false, p) })
}
