package h2

import "github.com/quadnine/quadnine/proxy/field"

// Handler receives a connection's events. Its methods are called from inside
// Feed, FeedEOF, Backlog, Shutdown and, for OnSent and OnOutput, from inside
// Stream methods. They must not block. No event reaches a stream after its
// OnReset or its Release.
type Handler interface {
	// OnHead brings a message's head. Server role: a request begins and s is
	// new. Client role: the response's head, and before it each interim (1xx)
	// head with end false. The list is valid during the call; its contents may
	// be changed, and swapped for another list's.
	OnHead(s *Stream, head *field.List, end bool)
	// OnData brings body bytes; p is valid only during the call. The last call
	// has end set, possibly with an empty p.
	OnData(s *Stream, p []byte, end bool)
	// OnTrailers ends the message. The list is valid only during the call.
	OnTrailers(s *Stream, trailers *field.List)
	// OnReset ends the stream abnormally; err is a *StreamError. A peer's reset
	// with NoError after its complete response (s.ReadEnded) only says that the
	// rest of the request is not wanted (RFC 9113 section 8.1).
	OnReset(s *Stream, err error)
	// OnSent says that n bytes which WriteData had buffered are in the output.
	OnSent(s *Stream, n int)
	// OnOutput asks for the driver's attention: there is output, or Reading or
	// Closing changed. It is called once until the next TakeOutput, and always
	// when the engine is at rest.
	OnOutput(c *Conn)
	// OnSettings says that the peer's first SETTINGS arrived and is applied.
	OnSettings(c *Conn)
	// OnGoAway says, once, that the peer sent GOAWAY or that the connection can
	// open no more streams. Streams that the peer did not process get OnReset.
	OnGoAway(c *Conn)
}
