package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"

	"github.com/quadnine/quadnine"
)

// Query is what a cache key is made of, besides header fields. Its slices are
// only read during Key.
type Query struct {
	Key       quadnine.Key
	Method    []byte
	Authority []byte
	Path      []byte   // without the query
	Query     []byte   // what follows "?", without it
	HasBody   bool     // the request has content, and Body is its digest
	Body      [32]byte // SHA-256, or as strong
	Model     string   // the version that accompanies the request: versions share no answers
}

// CacheKey names one stored answer. It is a view of the scratch it was built
// in: valid until that changes. Put copies it.
type CacheKey struct {
	hash  [2]uint64
	canon []byte
	key   quadnine.Key
}

// Bytes returns the canonical bytes: the scratch to hand to the next Key call.
func (k CacheKey) Bytes() []byte { return k.canon }

// selecting are the fields that choose among representations: part of every key.
var selecting = [...]string{"accept", "accept-encoding", "accept-language"}

// Key builds the key of a request in dst, which it overwrites and grows when
// needed; in steady state it allocates nothing.
//
// Requests share a key when they differ only in the order of query parameters
// of different names, in percent-encoding that means the same (RFC 3986 section
// 6.2.2), or in the authority's case. Credentials enter as a
// digest: they are in neither the key nor the scratch afterwards.
func (c *Cache) Key(dst []byte, q *Query, h Fields) CacheKey {
	dst = append(dst[:0], 1) // version of this form
	dst = appendPart(dst, q.Key.Tenant)
	dst = appendPart(dst, q.Key.Metric)
	dst = appendPart(dst, q.Method)
	dst = appendPart(dst, q.Authority)
	for i := len(dst) - len(q.Authority); i < len(dst); i++ {
		dst[i] = lower(dst[i])
	}
	at := len(dst)
	dst = sized(appendNormal(append(dst, 0, 0, 0, 0), q.Path), at)
	at = len(dst)
	dst = sized(appendQuery(append(dst, 0, 0, 0, 0), q.Query), at)
	at = len(dst)
	dst = sized(c.appendFields(append(dst, 0, 0, 0, 0), h), at)
	if q.HasBody {
		dst = append(dst, 1)
		dst = append(dst, q.Body[:]...)
	} else {
		dst = append(dst, 0)
	}
	if q.Model != "" { // the last part, so that without it a key is what it always was
		dst = appendPart(dst, q.Model)
	}
	return CacheKey{
		hash:  [2]uint64{maphash.Bytes(c.seeds[0], dst), maphash.Bytes(c.seeds[1], dst)},
		canon: dst,
		key:   q.Key,
	}
}

// maxKeyed is how many fields of a key are sorted without a second look.
const maxKeyed = 16

// appendFields appends the selecting fields as they are and a digest of the
// identity fields, each value of a repeated one included, in the order of the
// configured names whatever the request's order is.
func (c *Cache) appendFields(dst []byte, h Fields) []byte {
	var found [maxKeyed]struct{ name, at int32 }
	n := 0
	for j := range h.Len() {
		name := h.Name(j)
		if len(name) >= len(c.lengths) || !c.lengths[len(name)] {
			continue
		}
		for i, want := range c.keyed {
			if string(name) != want {
				continue
			}
			if n == maxKeyed {
				return c.appendMany(dst, h)
			}
			k := n
			for ; k > 0 && int(found[k-1].name) > i; k-- {
				found[k] = found[k-1]
			}
			found[k].name, found[k].at = int32(i), int32(j)
			n++
		}
	}
	k := 0
	for ; k < n && int(found[k].name) < len(selecting); k++ {
		dst = binary.AppendUvarint(dst, uint64(found[k].name)+1)
		dst = appendPart(dst, h.Value(int(found[k].at)))
	}
	dst = append(dst, 0)
	start := len(dst)
	for ; k < n; k++ {
		dst = binary.AppendUvarint(dst, uint64(found[k].name)+1)
		dst = appendPart(dst, h.Value(int(found[k].at)))
	}
	return appendDigest(dst, start)
}

// appendMany is appendFields for requests that repeat such fields often.
func (c *Cache) appendMany(dst []byte, h Fields) []byte {
	start := len(dst)
	for i, want := range c.keyed {
		if i == len(selecting) {
			dst = append(dst, 0)
			start = len(dst)
		}
		for j := range h.Len() {
			if n := h.Name(j); n != nil && string(n) == want {
				dst = binary.AppendUvarint(dst, uint64(i)+1)
				dst = appendPart(dst, h.Value(j))
			}
		}
	}
	if len(c.keyed) == len(selecting) {
		dst = append(dst, 0)
		start = len(dst)
	}
	return appendDigest(dst, start)
}

// appendDigest replaces dst from start on by its digest; of nothing there is none.
func appendDigest(dst []byte, start int) []byte {
	if start == len(dst) {
		return dst
	}
	sum := sha256.Sum256(dst[start:])
	clear(dst[start:])
	return append(dst[:start], sum[:]...)
}

func appendLength(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// appendPart appends a part with its length, so that no two lists of parts read alike.
func appendPart[T string | []byte](dst []byte, part T) []byte {
	return append(appendLength(dst, len(part)), part...)
}

// sized writes the length of what follows the four bytes at dst[at:] into them.
func sized(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

const upperHex = "0123456789ABCDEF"

// appendNormal appends s with percent-encoding normalized: unreserved characters
// decoded, hex digits in upper case (RFC 3986 sections 6.2.2.1 and 6.2.2.2). A
// "%" that begins no encoding becomes "%%", so that "%2%46" does not read like
// "%2F".
func appendNormal(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		plain := bytes.IndexByte(s[i:], '%')
		if plain < 0 {
			return append(dst, s[i:]...)
		}
		dst = append(dst, s[i:i+plain]...)
		i += plain
		hi, lo := -1, -1
		if i+2 < len(s) {
			hi, lo = unhex(s[i+1]), unhex(s[i+2])
		}
		if hi < 0 || lo < 0 {
			dst = append(dst, '%', '%')
			continue
		}
		if b := byte(hi<<4 | lo); unreserved(b) {
			dst = append(dst, b)
		} else {
			dst = append(dst, '%', upperHex[hi], upperHex[lo])
		}
		i += 2
	}
	return dst
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// maxSorted bounds the parameters that are sorted; a query with more keeps its
// order, which costs hits, never a wrong one.
const maxSorted = 64

// appendQuery appends the parameters of a query in canonical order, each ended
// by "&". Empty ones ("a=1&&b=2") are left out; "a" and "a=" stay different.
func appendQuery(dst, q []byte) []byte {
	start, last, lastName, n, sorted := len(dst), 0, -1, 0, true
	for i := 0; i < len(q); i++ {
		begin, eq, coded := i, -1, false
		for ; i < len(q) && q[i] != '&'; i++ {
			switch q[i] {
			case '%':
				coded = true
			case '=':
				if eq < 0 {
					eq = i
				}
			}
		}
		if begin == i {
			continue
		}
		from, name := len(dst), i-begin
		if coded {
			dst = appendNormal(dst, q[begin:i])
			if name = bytes.IndexByte(dst[from:], '='); name < 0 { // none was decoded
				name = len(dst) - from
			}
		} else {
			dst = append(dst, q[begin:i]...)
			if eq >= 0 {
				name = eq - begin
			}
		}
		sorted = sorted && (lastName < 0 || bytes.Compare(dst[last:last+lastName], dst[from:from+name]) <= 0)
		last, lastName = from, name
		dst = append(dst, '&')
		n++
	}
	if sorted || n > maxSorted {
		return dst
	}
	if n <= fewSorted {
		var spans [fewSorted][2]int
		return sortParams(dst, start, spans[:])
	}
	var spans [maxSorted][2]int
	return sortParams(dst, start, spans[:])
}

// fewSorted is up to how many are sorted in less scratch: clearing a kilobyte
// takes as long as the rest.
const fewSorted = 8

// sortParams sorts the parameters that stand in dst from start on; spans has room
// for them.
func sortParams(dst []byte, start int, spans [][2]int) []byte {
	n := 0
	for from := start; from < len(dst); n++ {
		to := from + bytes.IndexByte(dst[from:], '&') + 1 // appendNormal makes no "&"
		spans[n] = [2]int{from, to}
		from = to
	}
	for i := 1; i < n; i++ {
		for j := i; j > 0 && paramLess(dst[spans[j][0]:spans[j][1]-1], dst[spans[j-1][0]:spans[j-1][1]-1]); j-- {
			spans[j], spans[j-1] = spans[j-1], spans[j]
		}
	}
	end := len(dst)
	for _, s := range spans[:n] {
		dst = append(dst, dst[s[0]:s[1]]...)
	}
	copy(dst[start:], dst[end:])
	return dst[:end]
}

// paramLess orders parameters by name. Those of one name keep their order: to an
// upstream that takes the first of two values it means something.
func paramLess(a, b []byte) bool {
	an, _, _ := bytes.Cut(a, []byte("="))
	bn, _, _ := bytes.Cut(b, []byte("="))
	return bytes.Compare(an, bn) < 0
}
