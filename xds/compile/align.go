package compile

import (
	"bytes"
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// split takes a message apart: the values of one repeated message field, and the
// bytes of all others. hint is how many there may be. Values point into wire.
func split(wire []byte, field protowire.Number, hint int) (parts [][]byte, rest []byte, ok bool) {
	parts = make([][]byte, 0, hint)
	for len(wire) > 0 {
		num, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return nil, nil, false
		}
		m := protowire.ConsumeFieldValue(num, typ, wire[n:])
		if m < 0 {
			return nil, nil, false
		}
		if num == field && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(wire[n:])
			parts = append(parts, slices.Clip(v))
		} else {
			rest = append(rest, wire[:n+m]...)
		}
		wire = wire[n+m:]
	}
	return parts, rest, true
}

var seed = maphash.MakeSeed()

// align finds for each of parts one of n old ones with the same bytes, or -1. No
// old one is found twice. What stands at the same end is found without hashing.
func align(n int, old func(int) []byte, parts [][]byte) []int {
	from := make([]int, len(parts))
	for i := range from {
		from[i] = -1
	}
	low := 0
	for low < n && low < len(parts) && bytes.Equal(old(low), parts[low]) {
		from[low] = low
		low++
	}
	high := 0
	for high < n-low && high < len(parts)-low && bytes.Equal(old(n-1-high), parts[len(parts)-1-high]) {
		from[len(parts)-1-high] = n - 1 - high
		high++
	}
	if low+high == n || low+high == len(parts) {
		return from
	}
	byHash := make(map[uint64][]int, n-low-high)
	for i := low; i < n-high; i++ {
		h := maphash.Bytes(seed, old(i))
		byHash[h] = append(byHash[h], i)
	}
	for i := low; i < len(parts)-high; i++ {
		h := maphash.Bytes(seed, parts[i])
		for j, k := range byHash[h] {
			if bytes.Equal(old(k), parts[i]) {
				from[i] = k
				byHash[h] = append(byHash[h][:j:j], byHash[h][j+1:]...)
				break
			}
		}
	}
	return from
}
