package telemetry

// TraceContext is what a traceparent header says (W3C Trace Context, section
// 3.2). The zero value is no context.
type TraceContext struct {
	TraceID  [16]byte
	ParentID [8]byte
	Flags    byte
}

// The trace flags of level 2 of the specification; others are not forwarded.
const (
	flagSampled = 0x01
	flagRandom  = 0x02
)

// traceparentLen is the length of version 00:
// "00-" 32 digits "-" 16 digits "-" 2 digits.
const traceparentLen = 55

// Sampled reports whether the caller recorded its part of the trace, and so asks
// for ours.
func (tc TraceContext) Sampled() bool { return tc.Flags&flagSampled != 0 }

// Sampled reports whether traceparent is well formed as far as its flags and has
// the sampled bit set. It is the cheap first look: the identifiers are not read.
// Cost: 0 allocs (BenchmarkSampled).
func Sampled(traceparent []byte) bool {
	if len(traceparent) < traceparentLen || traceparent[52] != '-' {
		return false
	}
	return unhex(traceparent[54])&0xf0 == 0 && unhex(traceparent[54])&flagSampled != 0
}

// ParseTraceparent reads a traceparent header field. It returns false for what
// the specification calls invalid; such a request starts no span here and its
// header is forwarded as it came. Later versions are read as version 00.
func ParseTraceparent(b []byte) (tc TraceContext, ok bool) {
	if len(b) < traceparentLen || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return TraceContext{}, false
	}
	var version, flags [1]byte
	if !decodeHex(version[:], b[:2]) || !decodeHex(tc.TraceID[:], b[3:35]) ||
		!decodeHex(tc.ParentID[:], b[36:52]) || !decodeHex(flags[:], b[53:55]) {
		return TraceContext{}, false
	}
	switch {
	case version[0] == 0xff,
		version[0] == 0 && len(b) != traceparentLen,
		len(b) > traceparentLen && b[traceparentLen] != '-',
		tc.TraceID == [16]byte{}, tc.ParentID == [8]byte{}:
		return TraceContext{}, false
	}
	tc.Flags = flags[0] & (flagSampled | flagRandom)
	return tc, true
}

// AppendTraceparent appends tc to dst in the form of version 00.
func (tc TraceContext) AppendTraceparent(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = appendHex(dst, tc.TraceID[:])
	dst = append(dst, '-')
	dst = appendHex(dst, tc.ParentID[:])
	dst = append(dst, '-')
	return appendHex(dst, []byte{tc.Flags})
}

// unhex returns the value of a lower-case hexadecimal digit, or 0xff: the
// specification allows no upper case.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}

// decodeHex fills dst from twice as many digits.
func decodeHex(dst, digits []byte) bool {
	for i := range dst {
		high, low := unhex(digits[2*i]), unhex(digits[2*i+1])
		if (high|low)&0xf0 != 0 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func appendHex(dst, src []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range src {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}
