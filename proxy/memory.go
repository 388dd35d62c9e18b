package proxy

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// What HeapUsed adds and takes off. The runtime counts live bytes at the end of
// a collection; everything else is current.
var heapMetrics = []string{
	"/memory/classes/total:bytes",
	"/memory/classes/heap/released:bytes",
	"/memory/classes/heap/free:bytes",
	"/memory/classes/heap/unused:bytes",
	"/memory/classes/heap/objects:bytes",
	"/gc/heap/live:bytes",
}

// HeapUsed returns how much memory the runtime holds and cannot give up by
// collecting: live heap as of the last collection, stacks, and its own, in bytes.
// Mapped files are not part of it. It takes some microseconds.
func HeapUsed() int64 {
	s := make([]metrics.Sample, len(heapMetrics))
	for i, name := range heapMetrics {
		s[i].Name = name
	}
	metrics.Read(s)
	n := int64(s[0].Value.Uint64()) + int64(s[5].Value.Uint64())
	for _, v := range s[1:5] {
		n -= int64(v.Value.Uint64())
	}
	return n
}

// collections returns how many collections there were.
func collections() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// resident returns the process's resident set size in bytes, 0 where the system
// does not tell.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return n * int64(os.Getpagesize())
}
