package bufpool

import (
	"sync"

	"github.com/quadnine/quadnine/internal/invariant"
)

// The sizes that are lent, in bytes. Small is what a busy connection begins its
// next output with; medium is one read of 64 KiB with its frames' headers, large
// an engine's default OutputLimit with the last frame that goes over it, whole a
// cache's default for the longest body.
const (
	Small  = 4 << 10
	medium = 80 << 10
	large  = 288 << 10
	whole  = 1 << 20
)

// tiny is up to where a buffer grows as append would have it: most connections
// never need more.
const tiny = 1 << 10

var (
	smalls  = sync.Pool{New: func() any { return new([Small]byte) }}
	mediums = sync.Pool{New: func() any { return new([medium]byte) }}
	larges  = sync.Pool{New: func() any { return new([large]byte) }}
	wholes  = sync.Pool{New: func() any { return new([whole]byte) }}
)

// Get returns an empty buffer with room for n bytes. What it holds behind its
// length is anybody's.
func Get(n int) []byte {
	switch {
	case n <= Small:
		return smalls.Get().(*[Small]byte)[:0]
	case n <= medium:
		return mediums.Get().(*[medium]byte)[:0]
	case n <= large:
		return larges.Get().(*[large]byte)[:0]
	case n <= whole:
		return wholes.Get().(*[whole]byte)[:0]
	default:
		return make([]byte, 0, n)
	}
}

// Free takes a buffer back from its owner, who began with Get or Grow and did not
// cut off its front. Any other one is left to the garbage collector.
func Free(b []byte) {
	invariant.Poison(b)
	switch cap(b) {
	case Small:
		smalls.Put((*[Small]byte)(b[:Small]))
	case medium:
		mediums.Put((*[medium]byte)(b[:medium]))
	case large:
		larges.Put((*[large]byte)(b[:large]))
	case whole:
		wholes.Put((*[whole]byte)(b[:whole]))
	}
}

// Grow returns b with room for n more bytes. If that is another buffer, b was
// freed.
func Grow(b []byte, n int) []byte {
	if n <= cap(b)-len(b) {
		return b
	}
	return grow(b, n)
}

func grow(b []byte, n int) []byte {
	need := len(b) + n
	if need <= tiny {
		return b // append does it
	}
	if need > whole {
		need += need / 4 // as append would: the next bytes do not move all again
	}
	g := append(Get(need), b...)
	Free(b)
	return g
}
