package wire

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// Constants of the protocol.
const (
	Magic      = "QSHARE1\x00" // begins a Hello
	Protocol   = 1
	HeaderSize = 8
	MaxFiles   = 253     // descriptors in one message; SCM_MAX_FD of Linux
	MaxBody    = 1 << 20 // bytes; of frames of the server
	MaxAsk     = 1 << 10 // bytes; of frames of the client
)

// Type says what a frame is.
type Type uint8

// The types. Those below 16 are the client's.
const (
	TypeHello    Type = 1 // the first frame; which model
	TypeReady    Type = 2 // a version is mapped and its root was checked
	TypeFailed   Type = 3 // a version could not be mapped, or has another root
	TypeReleased Type = 4 // a version is not mapped any more

	TypeWelcome Type = 16 // the answer to Hello
	TypeOffer   Type = 17 // a version to be mapped; what belongs to it follows
	TypeFiles   Type = 18 // descriptors
	TypeWindows Type = 19 // where the version's bytes are in the region
	TypePieces  Type = 20 // what to map where
	TypeSwitch  Type = 21 // which versions answer from now on
	TypeRelease Type = 22 // a version is to be unmapped
	TypeRevoked Type = 23 // it was not, in time: the connection ends
	TypeRefused Type = 24 // the connection ends, and why
)

var typeNames = map[Type]string{
	TypeHello: "HELLO", TypeReady: "READY", TypeFailed: "FAILED", TypeReleased: "RELEASED",
	TypeWelcome: "WELCOME", TypeOffer: "OFFER", TypeFiles: "FILES", TypeWindows: "WINDOWS", TypePieces: "PIECES",
	TypeSwitch: "SWITCH", TypeRelease: "RELEASE", TypeRevoked: "REVOKED", TypeRefused: "REFUSED",
}

// String returns the type's name as the documentation has it.
func (t Type) String() string {
	if s := typeNames[t]; s != "" {
		return s
	}
	return "frame type " + strconv.Itoa(int(t))
}

// Error says that a peer does not keep to the protocol.
type Error struct{ text string }

// Error returns what was wrong.
func (e *Error) Error() string { return "wire: " + e.text }

func malformed(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Header is a frame's first 8 bytes.
type Header struct {
	Len  int // of the body, bytes
	Type Type
}

// ParseHeader reads a frame's header; its body must not be longer than most.
func ParseHeader(b []byte, most int) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, malformed("a header of %d bytes, want %d", len(b), HeaderSize)
	}
	h := Header{Type: Type(b[4])}
	n := binary.LittleEndian.Uint32(b)
	switch {
	case typeNames[h.Type] == "":
		return h, malformed("%v is unknown", h.Type)
	case b[5]|b[6]|b[7] != 0:
		return h, malformed("%v: bytes 5 to 7 of the header: want zeros", h.Type)
	case uint64(n) > uint64(most):
		return h, malformed("%v: a body of %d bytes, at most %d are allowed", h.Type, n, most)
	}
	h.Len = int(n)
	return h, nil
}

// appendFrame appends a frame whose body is appended by body.
func appendFrame(b []byte, t Type, body func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, byte(t), 0, 0, 0)
	b = body(b)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-HeaderSize))
	return b
}

// reader takes integers from a body; the first lack is remembered.
type reader struct {
	t   Type
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = malformed("%v: the body ends %d bytes early", r.t, n-len(r.b))
	}
	if r.err != nil {
		return make([]byte, n)
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// size reads a size or an offset.
func (r *reader) size() int64 {
	v := r.u64()
	if v > maxSize && r.err == nil {
		r.err = malformed("%v: %d is more than any size or offset may be", r.t, v)
	}
	return int64(min(v, maxSize))
}

const maxSize = 1 << 46 // bytes: sums of a few cannot overflow, and no address space is larger

// end returns what went wrong, also when bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = malformed("%v: %d bytes after the body's end", r.t, len(r.b))
	}
	return r.err
}
