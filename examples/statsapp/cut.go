package statsapp

import (
	"context"
	"encoding/binary"
	"net/http"
	"sync/atomic"
)

// cut tells the writer of a gRPC call where its answer ends.
type cut struct {
	replies int // messages answered before; belongs to the method's goroutine
	at      atomic.Pointer[cutPoint]
}

// cutPoint is a message of the answer, from 0, and whether half of it passes.
// The number is needed because grpc-go writes behind the method's back: an
// earlier message may still be on its way.
type cutPoint struct {
	message int
	half    bool
}

// here cuts at the message that the method is about to send.
func (c *cut) here(half bool) { c.at.Store(&cutPoint{c.replies, half}) }

type cutKey struct{}

// cutOf returns the call's cut. A call that did not come through serveGRPC has
// none that anybody looks at.
func cutOf(ctx context.Context) *cut {
	if c, ok := ctx.Value(cutKey{}).(*cut); ok {
		return c
	}
	return new(cut)
}

// cutWriter lets grpc-go's writes through up to the cut. It belongs to the
// goroutine of the request.
type cutWriter struct {
	http.ResponseWriter
	cut *cut

	done   int     // whole messages that passed
	prefix [5]byte // of the message under way: flag and length ("Length-Prefixed-Message", gRPC over HTTP/2)
	have   int     // bytes of prefix seen
	left   int     // bytes of the message still to come
	pass   int     // how many of those may pass
	half   bool    // pass is half of the message: the last that is sent
	unsent bool    // something was written since the last flush
	over   bool    // the cut is reached
}

// Write passes on what of p lies before the cut. It claims to have written all:
// grpc-go must go on to the end of its method.
func (w *cutWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !w.reached(); {
		if w.have < len(w.prefix) {
			n := copy(w.prefix[w.have:], rest)
			w.have, rest = w.have+n, rest[n:]
			if w.have == len(w.prefix) {
				w.begin()
			}
			continue
		}
		n := min(w.left, len(rest))
		w.send(rest[:min(n, w.pass)])
		w.pass -= min(n, w.pass)
		w.left, rest = w.left-n, rest[n:]
		w.end()
	}
	return len(p), nil
}

// begin sends a complete prefix and decides how much of its message may follow.
func (w *cutWriter) begin() {
	w.send(w.prefix[:])
	w.left = int(binary.BigEndian.Uint32(w.prefix[1:]))
	w.pass = w.left
	if at := w.cut.at.Load(); at != nil && at.half && at.message == w.done {
		w.pass, w.half = w.pass/2, true
	}
	w.end()
}

// end closes the message once all of it is seen, or the answer once the half of
// it that may pass is sent.
func (w *cutWriter) end() {
	switch {
	case w.half && w.pass == 0:
		w.Flush()
		w.over = true
	case w.left == 0:
		w.done++
		w.have = 0
	}
}

// reached reports whether nothing more may be sent.
func (w *cutWriter) reached() bool {
	if at := w.cut.at.Load(); at != nil && !at.half && at.message == w.done && w.have == 0 {
		w.over = true
	}
	return w.over
}

func (w *cutWriter) send(p []byte) {
	w.unsent = true
	_, _ = w.ResponseWriter.Write(p) // fails when the caller is gone: nobody is left to tell
}

// WriteHeader sends the header unless the cut comes first.
func (w *cutWriter) WriteHeader(status int) {
	if !w.reached() {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Flush sends what was written before the cut. At the cut itself it sends no
// header by itself. grpc-go requires the method.
func (w *cutWriter) Flush() {
	if w.unsent || !w.reached() {
		w.unsent = false
		_ = http.NewResponseController(w.ResponseWriter).Flush() // fails when the caller is gone
	}
}

// Unwrap returns the writer beneath, for http.ResponseController.
func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
