package h1

import (
	"errors"
	"strconv"
	"strings"
)

// ErrCode is an HTTP/2 error code (RFC 9113 section 7), so that both engines
// tell their owner the same thing.
type ErrCode uint32

// The error codes. They are untyped, to fit ErrCode, StreamError.Code and Reset.
const (
	NoError            = 0x0
	ProtocolError      = 0x1
	InternalError      = 0x2
	FlowControlError   = 0x3
	SettingsTimeout    = 0x4
	StreamClosed       = 0x5
	FrameSizeError     = 0x6
	RefusedStream      = 0x7
	Cancel             = 0x8
	CompressionError   = 0x9
	ConnectError       = 0xa
	EnhanceYourCalm    = 0xb
	InadequateSecurity = 0xc
	HTTP11Required     = 0xd
)

var codeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
	"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
	"CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the code's name in the RFC, or its number.
func (c ErrCode) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// StreamError tells why an exchange ended abnormally. OnReset brings one.
type StreamError struct {
	Code        uint32 // RFC 9113 section 7
	Remote      bool   // the peer ended it
	Unprocessed bool   // the peer surely or, on a reused connection, most likely processed nothing: it may be tried again
	ConnLost    bool   // the connection ended
	Reason      string // what happened, for logs
}

// Error returns the code's name and the reason.
func (e *StreamError) Error() string {
	var b strings.Builder
	b.WriteString("h1: ")
	b.WriteString(ErrCode(e.Code).String())
	if e.ConnLost {
		b.WriteString(", connection lost")
	}
	if e.Reason != "" {
		b.WriteString(": ")
		b.WriteString(e.Reason)
	}
	return b.String()
}

// Error is a message that was refused. The connection is over.
type Error struct {
	Status int    // what the caller was answered; 0 in client role
	Line   int    // line of the head or of the trailer section, from 1; 0 when it was elsewhere
	Reason string // for example "space before colon"

	ChunkFlood bool // a chunked body is mostly framing, or a chunk-size line is too long
}

// Error returns "line 3: space before colon".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return "line " + strconv.Itoa(e.Line) + ": " + e.Reason
}

// Errors of OpenStream.
var (
	ErrBusy      = errors.New("h1: connection busy: it carries one exchange at a time")
	ErrGoingAway = errors.New("h1: connection going away: open another one")
)

// refusal is why something cannot be accepted; the zero value means it can.
type refusal struct {
	status int
	reason string
}

func bad(reason string) refusal { return refusal{400, reason} }

func (r refusal) refused() bool { return r.status != 0 }
