package h2

import "errors"

// Errors that OpenStream and Feed return as they are.
var (
	ErrFull      = errors.New("h2: the peer's limit of concurrent streams is reached")
	ErrGoingAway = errors.New("h2: the connection opens no new streams")
	ErrNotHTTP2  = errors.New("h2: the peer does not speak HTTP/2: its first bytes are not a SETTINGS frame")
	ErrClosed    = errors.New("h2: the connection is closed")
)

// ConnError ends a connection (RFC 9113 section 5.4.1). The GOAWAY that tells
// the peer is in the output when Feed returns it.
type ConnError struct {
	Code   ErrCode
	Reason string
	Flood  Flood // the bound that the peer went over; NoFlood for other errors
}

// Error returns the code and the reason.
func (e *ConnError) Error() string {
	return "h2: connection error " + e.Code.String() + ": " + e.Reason
}

// StreamError ends one stream abnormally (RFC 9113 section 5.4.2). It is what
// Handler.OnReset receives.
type StreamError struct {
	Code        ErrCode
	Remote      bool   // the peer reset the stream or refused it with GOAWAY
	Unprocessed bool   // the peer did nothing with the request: a retry is safe
	ConnLost    bool   // the stream ended because the connection did
	Reason      string // what was wrong; may be empty when Remote
}

// Error says who ended the stream, the code and the reason.
func (e *StreamError) Error() string {
	who := "h2: stream reset here: "
	switch {
	case e.ConnLost:
		who = "h2: stream lost with its connection: "
	case e.Remote:
		who = "h2: stream reset by the peer: "
	}
	if e.Reason == "" {
		return who + e.Code.String()
	}
	return who + e.Code.String() + ": " + e.Reason
}
