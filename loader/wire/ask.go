package wire

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxModel  = 255 // bytes of a model's name
	maxReason = 512 // bytes of a reason
)

// Hello is a client's first frame.
type Hello struct {
	Model  string // 1 to 255 bytes of UTF-8
	SHA256 bool   // the client cannot check a root, but a SHA-256
}

const helloSHA256 = 1

// Append appends the frame.
func (h Hello) Append(b []byte) []byte {
	return appendFrame(b, TypeHello, func(b []byte) []byte {
		b = append(b, Magic...)
		b = binary.LittleEndian.AppendUint32(b, Protocol)
		flags := uint32(0)
		if h.SHA256 {
			flags |= helloSHA256
		}
		b = binary.LittleEndian.AppendUint32(b, flags)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Model)))
		return append(b, h.Model...)
	})
}

// ParseHello reads a Hello's body.
func ParseHello(b []byte) (Hello, error) {
	r := reader{t: TypeHello, b: b}
	magic, protocol, flags := r.take(len(Magic)), r.u32(), r.u32()
	name := string(r.take(int(r.u16())))
	if err := r.end(); err != nil {
		return Hello{}, err
	}
	switch {
	case string(magic) != Magic:
		return Hello{}, malformed("HELLO begins with %q, want %q", magic, Magic)
	case protocol != Protocol:
		return Hello{}, malformed("protocol version %d, this sidecar speaks %d", protocol, Protocol)
	case flags&^helloSHA256 != 0:
		return Hello{}, malformed("HELLO: flags %#x are unknown", flags&^helloSHA256)
	case name == "" || len(name) > maxModel || !utf8.ValidString(name):
		return Hello{}, malformed("HELLO: a model's name has 1 to %d bytes of UTF-8, this one %d", maxModel, len(name))
	}
	return Hello{name, flags&helloSHA256 != 0}, nil
}

// AppendNumber appends a frame that consists of a version's number: Ready,
// Released or Revoked.
func AppendNumber(b []byte, t Type, version uint64) []byte {
	return appendFrame(b, t, func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, version) })
}

// ParseNumber reads the body of such a frame.
func ParseNumber(t Type, b []byte) (uint64, error) {
	r := reader{t: t, b: b}
	n := r.u64()
	return n, r.end()
}

// AppendFailed appends a Failed frame. A reason longer than 512 bytes is cut.
func AppendFailed(b []byte, version uint64, reason string) []byte {
	return appendFrame(b, TypeFailed, func(b []byte) []byte {
		return append(binary.LittleEndian.AppendUint64(b, version), cut(reason)...)
	})
}

// ParseFailed reads a Failed's body. What of the reason is no text is replaced.
func ParseFailed(b []byte) (version uint64, reason string, err error) {
	r := reader{t: TypeFailed, b: b}
	version = r.u64()
	return version, text(r.b), r.err
}

// AppendRefused appends a Refused frame. A reason longer than 512 bytes is cut.
func AppendRefused(b []byte, reason string) []byte {
	return appendFrame(b, TypeRefused, func(b []byte) []byte { return append(b, cut(reason)...) })
}

// ParseRefused reads a Refused's body.
func ParseRefused(b []byte) string { return text(b) }

func cut(s string) string { return s[:min(len(s), maxReason)] }

// text makes a peer's bytes safe to log: valid UTF-8 on one line.
func text(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), maxReason)]), "�"))
}

// Welcome is the answer to Hello.
type Welcome struct {
	PageSize int64         // what offsets are multiples of
	Ready    time.Duration // how long a version may take until Ready
	Reclaim  time.Duration // how long it may stay mapped after Release
}

// Append appends the frame.
func (w Welcome) Append(b []byte) []byte {
	return appendFrame(b, TypeWelcome, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint32(b, Protocol)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(w.PageSize))
		b = appendMillis(b, w.Ready)
		return appendMillis(b, w.Reclaim)
	})
}

func appendMillis(b []byte, d time.Duration) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(max(d.Milliseconds(), 0)))
}

func (r *reader) millis() time.Duration {
	return time.Duration(min(r.u64(), math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// ParseWelcome reads a Welcome's body.
func ParseWelcome(b []byte) (Welcome, error) {
	r := reader{t: TypeWelcome, b: b}
	protocol, _ := r.u32(), r.u32() // the second is kept for later
	w := Welcome{r.size(), r.millis(), r.millis()}
	if err := r.end(); err != nil {
		return Welcome{}, err
	}
	if protocol != Protocol {
		return Welcome{}, malformed("the sidecar speaks protocol version %d, this client %d", protocol, Protocol)
	}
	return w, nil
}

// Release asks for a version to be unmapped.
type Release struct {
	Version uint64
	Within  time.Duration // then it is Revoked
}

// Append appends the frame.
func (m Release) Append(b []byte) []byte {
	return appendFrame(b, TypeRelease, func(b []byte) []byte {
		return appendMillis(binary.LittleEndian.AppendUint64(b, m.Version), m.Within)
	})
}

// ParseRelease reads a Release's body.
func ParseRelease(b []byte) (Release, error) {
	r := reader{t: TypeRelease, b: b}
	m := Release{r.u64(), r.millis()}
	return m, r.end()
}

// Switch says which versions answer.
type Switch struct {
	Active uint64 // 0: none
	Canary uint64 // 0: none
	Share  uint64 // of 1<<32 callers, for the canary
}

// Append appends the frame.
func (m Switch) Append(b []byte) []byte {
	return appendFrame(b, TypeSwitch, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(b, m.Active)
		b = binary.LittleEndian.AppendUint64(b, m.Canary)
		return binary.LittleEndian.AppendUint64(b, m.Share)
	})
}

// ParseSwitch reads a Switch's body.
func ParseSwitch(b []byte) (Switch, error) {
	r := reader{t: TypeSwitch, b: b}
	m := Switch{r.u64(), r.u64(), r.u64()}
	if m.Share > 1<<32 && r.err == nil {
		return m, malformed("SWITCH: a share of %d, at most %d is allowed", m.Share, uint64(1)<<32)
	}
	return m, r.end()
}
