package h2

import "encoding/binary"

// Sizes and ranges of RFC 9113 sections 4.2 and 6.5.2.
const (
	frameHeaderLen   = 9
	minMaxFrame      = 1 << 14
	maxMaxFrame      = 1<<24 - 1
	initialWindow    = 1<<16 - 1
	maxWindow        = 1<<31 - 1
	maxStreamID      = 1<<31 - 1
	defaultTableSize = 4096
)

// sendFrame is the largest payload sent. Every peer accepts it; a larger one
// would only let one stream hold the connection longer.
const sendFrame = minMaxFrame

type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

type frameHeader struct {
	length int
	typ    frameType
	flags  uint8
	stream uint32
}

// parseHeader reads a frame header; p holds at least frameHeaderLen bytes.
func parseHeader(p []byte) frameHeader {
	_ = p[frameHeaderLen-1]
	return frameHeader{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]),
		typ:    frameType(p[3]),
		flags:  p[4],
		stream: binary.BigEndian.Uint32(p[5:]) & maxStreamID,
	}
}

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

func appendHeader(b []byte, length int, typ frameType, flags uint8, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendRSTStream(b []byte, stream uint32, code ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, frameRSTStream, 0, stream), uint32(code))
}

func appendWindowUpdate(b []byte, stream uint32, n int64) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, frameWindowUpdate, 0, stream), uint32(n))
}

// be32 reads a 32-bit number; be31 leaves out the reserved or exclusive bit.
func be32(p []byte) uint32 { return binary.BigEndian.Uint32(p) }

func be31(p []byte) uint32 { return be32(p) & maxStreamID }
