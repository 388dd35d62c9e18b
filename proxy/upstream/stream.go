package upstream

import (
	"github.com/quadnine/quadnine/proxy/field"
)

// Stream is one exchange on an upstream connection, of either protocol. Both
// engines' Stream types provide it; it never blocks.
type Stream interface {
	WriteHead(head *field.List, end bool)
	WriteData(p []byte, end bool) (sent int)
	WriteTrailers(t *field.List)
	Consume(n int)
	Reset(code uint32)
	Buffered() int
	ReadEnded() bool
	WriteEnded() bool
	Release()
}

// Failure says how a stream ended that did not end well.
type Failure struct {
	Code        uint32 // RFC 9113 section 7
	Remote      bool   // the peer ended it
	Unprocessed bool   // nothing of the request was processed
	ConnLost    bool   // the connection ended under it
	Reason      string
}

// Receiver is told what happens on a Request's stream, on its shard's goroutine.
// Slices and lists are valid during the call only.
type Receiver interface {
	// OnUpstream gives the stream that Pool.Open promised.
	OnUpstream(s Stream)
	// OnUnavailable says that no stream can be had; nothing was sent.
	OnUnavailable(err error)
	// OnUpHead gives the response's head; informational heads come before it.
	OnUpHead(head *field.List, end bool)
	OnUpData(p []byte, end bool)
	OnUpTrailers(t *field.List)
	// OnUpReset ends the stream; nothing follows.
	OnUpReset(f Failure)
	// OnUpSent says that n bytes that WriteData had kept were written.
	OnUpSent(n int)
}
