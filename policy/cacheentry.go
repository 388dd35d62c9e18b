package policy

import (
	"bytes"
	"strings"

	"github.com/quadnine/quadnine"
)

// Stored is one stored answer. It never changes; what its methods return must
// not be written to. It implements Fields.
type Stored struct {
	Status   int
	Body     []byte
	StoredAt int64 // ns, by the clock of Put's now

	key    quadnine.Key
	canon  []byte
	arena  []byte
	spans  []storedSpan
	weight uint32
}

type storedSpan struct{ name, value, end uint32 } // offsets into arena

// Len returns the number of fields.
func (s *Stored) Len() int { return len(s.spans) }

// Name returns the i-th field's name.
func (s *Stored) Name(i int) []byte {
	p := s.spans[i]
	return s.arena[p.name:p.value:p.value]
}

// Value returns the i-th field's value.
func (s *Stored) Value(i int) []byte {
	p := s.spans[i]
	return s.arena[p.value:p.end:p.end]
}

// Get returns the first value of name, or nil when there is none.
func (s *Stored) Get(name string) []byte {
	for i := range s.spans {
		if string(s.Name(i)) == name {
			return s.Value(i)
		}
	}
	return nil
}

// Bytes returns what s counts against MaxBytes.
func (s *Stored) Bytes() int { return int(s.weight) }

// entryOverhead is what an answer costs besides its bytes: Stored, the store's
// node and its place in the hash table.
const entryOverhead = 320

// newStored copies an answer, without the fields that must not be told again.
func newStored(k CacheKey, status int, resp Fields, body []byte, now int64) *Stored {
	s := &Stored{
		Status: status, StoredAt: now, Body: bytes.Clone(body),
		key:   quadnine.Key{Tenant: strings.Clone(k.key.Tenant), Metric: strings.Clone(k.key.Metric)},
		canon: bytes.Clone(k.canon),
	}
	n, size := 0, 0
	for i := range resp.Len() {
		if keep(resp, i) {
			n++
			size += len(resp.Name(i)) + len(resp.Value(i))
		}
	}
	s.arena, s.spans = make([]byte, 0, size), make([]storedSpan, 0, n)
	for i := range resp.Len() {
		if !keep(resp, i) {
			continue
		}
		p := storedSpan{name: uint32(len(s.arena))}
		s.arena = append(s.arena, resp.Name(i)...)
		p.value = uint32(len(s.arena))
		s.arena = append(s.arena, resp.Value(i)...)
		p.end = uint32(len(s.arena))
		s.spans = append(s.spans, p)
	}
	s.weight = uint32(min(1<<32-1, len(s.Body)+len(s.arena)+12*len(s.spans)+len(s.canon)+len(s.key.Tenant)+len(s.key.Metric)+entryOverhead))
	return s
}

// keep reports whether the i-th field is stored. Left out are: pseudo-header
// fields; Set-Cookie, which belongs to whoever asked first; what belongs to one
// connection (RFC 9110 section 7.6.1, RFC 9111 section 3.1); what this process
// says about the reply; and Age, which is computed anew.
func keep(resp Fields, i int) bool {
	n := resp.Name(i)
	if len(n) == 0 || n[0] == ':' || bytes.HasPrefix(n, []byte("x-quadnine-")) {
		return false
	}
	switch string(n) {
	case "set-cookie", "set-cookie2", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade",
		"proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "cache-status", "age":
		return false
	}
	for j := range resp.Len() {
		if string(resp.Name(j)) == "connection" && listed(resp.Value(j), n) {
			return false
		}
	}
	return true
}
