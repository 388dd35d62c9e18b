package wire

import "encoding/binary"

// Preface opens a client's connection (RFC 9113, section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// HeaderLen is the length of a frame's header in bytes.
const HeaderLen = 9

// MaxPayload is the longest payload that a peer may send, unless told otherwise.
const MaxPayload = 1 << 14

// Type is a frame's type (RFC 9113, section 6).
type Type uint8

// The types that are sent or understood here.
const (
	Data         Type = 0x0
	Headers      Type = 0x1
	RSTStream    Type = 0x3
	Settings     Type = 0x4
	Ping         Type = 0x6
	GoAway       Type = 0x7
	WindowUpdate Type = 0x8
	Continuation Type = 0x9
)

// Flags are a frame's flags; their meaning depends on its type.
type Flags uint8

// The flags that are sent or understood here.
const (
	EndStream  Flags = 0x1 // DATA, HEADERS
	Ack        Flags = 0x1 // SETTINGS, PING
	EndHeaders Flags = 0x4
	Padded     Flags = 0x8
	Priority   Flags = 0x20
)

// The settings that are sent or understood here (RFC 9113, section 6.5.2).
const (
	HeaderTableSize      = 0x1
	EnablePush           = 0x2
	MaxConcurrentStreams = 0x3
	InitialWindowSize    = 0x4
)

// DefaultWindow is a flow-control window before anybody says otherwise.
const DefaultWindow = 65535

// Frame is one frame's header and payload.
type Frame struct {
	Type    Type
	Flags   Flags
	Stream  uint32
	Payload []byte // of the buffer it was read from
}

// Next cuts the first complete frame off b. Without one, rest is b and ok false.
func Next(b []byte) (f Frame, rest []byte, ok bool) {
	if len(b) < HeaderLen {
		return Frame{}, b, false
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if len(b) < HeaderLen+n {
		return Frame{}, b, false
	}
	f = Frame{Type: Type(b[3]), Flags: Flags(b[4]), Stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31), Payload: b[HeaderLen : HeaderLen+n]}
	return f, b[HeaderLen+n:], true
}

// Bare returns the payload without padding and priority (RFC 9113, sections 6.1
// and 6.2); nil when they do not fit.
func (f Frame) Bare() []byte {
	p := f.Payload
	pad := 0
	if f.Flags&Padded != 0 {
		if len(p) < 1 {
			return nil
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.Type == Headers && f.Flags&Priority != 0 {
		if len(p) < 5 {
			return nil
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil
	}
	return p[:len(p)-pad]
}

// AppendHeader appends a frame's header to dst.
func AppendHeader(dst []byte, n int, t Type, f Flags, stream uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(f), byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// Setting is one parameter of a SETTINGS frame.
type Setting struct {
	ID    uint16
	Value uint32
}

// AppendSettings appends a SETTINGS frame to dst.
func AppendSettings(dst []byte, list ...Setting) []byte {
	dst = AppendHeader(dst, 6*len(list), Settings, 0, 0)
	for _, s := range list {
		dst = binary.BigEndian.AppendUint16(dst, s.ID)
		dst = binary.BigEndian.AppendUint32(dst, s.Value)
	}
	return dst
}

// AppendWindow appends a WINDOW_UPDATE frame to dst; stream 0 is the connection.
func AppendWindow(dst []byte, stream, grow uint32) []byte {
	dst = AppendHeader(dst, 4, WindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, grow)
}

// Settings calls each for every parameter of a SETTINGS frame.
func (f Frame) Settings(each func(Setting)) {
	for p := f.Payload; len(p) >= 6; p = p[6:] {
		each(Setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])})
	}
}

// Uint32 returns the payload's first four bytes as a number, 0 when there are
// fewer: a WINDOW_UPDATE's increment, an RST_STREAM's code.
func (f Frame) Uint32() uint32 {
	if len(f.Payload) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(f.Payload)
}
