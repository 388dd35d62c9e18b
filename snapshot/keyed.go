package snapshot

import "math/bits"

// hash is FNV-1a, which can be continued byte by byte: the hashes of all
// prefixes of a path cost one pass. What is hashed into a table comes from the
// configuration, so that a caller cannot make its chains long.
type hash uint64

const hashStart hash = 14695981039346656037

func (h hash) add(c byte) hash { return (h ^ hash(c)) * 1099511628211 }

func hashOf[T string | []byte](s T) hash {
	h := hashStart
	for i := range len(s) {
		h = h.add(s[i])
	}
	return h
}

// keyed numbers distinct strings from 0 in the order in which they come.
type keyed struct {
	slots []uint32 // number + 1, by hash; 0: free
	shift uint8
	hash  []hash // by number
	keys  []string
}

// newKeyed returns a table for at most n strings.
func newKeyed(n int) keyed {
	size := bits.Len(uint(2*n) | 7) // at most half full
	return keyed{
		slots: make([]uint32, 1<<size), shift: uint8(64 - size),
		hash: make([]hash, 0, n), keys: make([]string, 0, n),
	}
}

// slot spreads h, whose upper bits hold little of a short string's last byte.
func (k *keyed) slot(h hash) uint64 { return uint64(h*0x9E3779B97F4A7C15) >> k.shift }

// put returns the number of key, which it gives one when it is new.
func (k *keyed) put(h hash, key string) int {
	i := k.slot(h)
	for ; k.slots[i] != 0; i = (i + 1) & uint64(len(k.slots)-1) {
		if n := k.slots[i] - 1; k.hash[n] == h && k.keys[n] == key {
			return int(n)
		}
	}
	k.hash, k.keys = append(k.hash, h), append(k.keys, key)
	k.slots[i] = uint32(len(k.keys))
	return len(k.keys) - 1
}

// find returns the number of key, or -1. The key of a fold table is in lower
// case, and b is compared as if it were.
func (k *keyed) find(h hash, b []byte, fold bool) int {
	if len(k.keys) == 0 {
		return -1
	}
	for i := k.slot(h); k.slots[i] != 0; i = (i + 1) & uint64(len(k.slots)-1) {
		n := k.slots[i] - 1
		if k.hash[n] != h {
			continue
		}
		if fold && equalFold(b, k.keys[n]) || !fold && string(b) == k.keys[n] {
			return int(n)
		}
	}
	return -1
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// equalFold reports whether b and s are equal when ASCII letters are compared in
// lower case. Envoy folds no others either.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

// lowerCase is strings.ToLower for ASCII letters only.
func lowerCase(s string) string {
	for i := range len(s) {
		if lower(s[i]) == s[i] {
			continue
		}
		b := []byte(s)
		for j := i; j < len(b); j++ {
			b[j] = lower(b[j])
		}
		return string(b)
	}
	return s
}
