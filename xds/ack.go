package xds

import (
	"fmt"
	"hash/maphash"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	xdsv1 "github.com/quadnine/quadnine/xds/api/quadnine/xds/v1"
)

// maxNack is how long the text of a NACK can be, in bytes. Servers log it, put it
// into the status of objects and keep it for each node.
const maxNack = 4 << 10

// Each part of a reason has a share of the text, so that an endless name leaves
// room for what is wrong with it.
const (
	maxNackName   = 256
	maxNackPath   = 512
	maxNackReason = 1024
	maxNackHint   = 512
)

// NackText is what a server is told of what was rejected: resource, field path,
// reason and hint of each, in at most 4 KiB of UTF-8.
func NackText(k Kind, rejected []Rejected) string {
	var b strings.Builder
	for i, r := range rejected {
		var line strings.Builder
		if i > 0 {
			line.WriteString("; ")
		}
		line.WriteString(k.Message())
		if r.Name != "" {
			fmt.Fprintf(&line, " %q", cut(r.Name, maxNackName))
		}
		if r.Path != "" {
			line.WriteString(": " + cut(r.Path, maxNackPath))
		}
		line.WriteString(": " + cut(r.Reason, maxNackReason))
		if r.Hint != "" {
			line.WriteString(" (" + cut(r.Hint, maxNackHint) + ")")
		}
		left := len(rejected) - i
		rest := fmt.Sprintf("; and %d more", left)
		if b.Len()+line.Len() > maxNack-len(rest) && i > 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(line.String())
	}
	return cut(b.String(), maxNack)
}

// cut shortens s to at most n bytes of valid UTF-8: a message with anything else
// cannot be sent.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// nackStatus is the error_detail of a NACK: the text for people, and for programs
// the same reasons one by one, as many as fit into another 4 KiB.
func nackStatus(k Kind, rejected []Rejected) *status.Status {
	s := &status.Status{Code: int32(codes.InvalidArgument), Message: NackText(k, rejected)}
	size := 0
	for _, r := range rejected {
		packed, err := anypb.New(&xdsv1.RejectedResource{
			Name: cut(r.Name, maxNackName), Path: cut(r.Path, maxNackPath), Reason: cut(r.Reason, maxNackReason), Hint: cut(r.Hint, maxNackHint),
		})
		if err != nil {
			break // not with valid UTF-8
		}
		if size += proto.Size(packed) + 4; size > maxNack { // with its tag and length
			break
		}
		s.Details = append(s.Details, packed)
	}
	return s
}

// How often NACKs are sent for a kind. Some servers answer a NACK with what was
// just rejected, at once and for ever: without a limit that is thousands of
// messages a second, in both directions.
const (
	nackSame  = time.Second // between NACKs of the same bytes
	nackBurst = 8           // NACKs of different bytes at once; then one each nackSame

	// validAgain is after how long the same response is validated once more: some
	// reasons lie outside of it, such as an address in use.
	validAgain = 30 * time.Second
)

// limiter says when a NACK may be sent. It is a kind's, and outlives streams. The
// zero value is ready.
type limiter struct {
	key  uint64 // what was rejected last
	last time.Time
	used int // of the burst
}

// due returns when a NACK of what key stands for may be sent, which is now or
// later.
func (l *limiter) due(now time.Time, key uint64) time.Time {
	if l.last.IsZero() || key != l.key && l.left(now) > 0 {
		return now
	}
	if next := l.last.Add(nackSame); next.After(now) {
		return next
	}
	return now
}

// sent notes a NACK.
func (l *limiter) sent(now time.Time, key uint64) {
	l.used = nackBurst - l.left(now) + 1
	l.key, l.last = key, now
}

// left returns how much of the burst is left.
func (l *limiter) left(now time.Time) int {
	return min(nackBurst-l.used+int(now.Sub(l.last)/nackSame), nackBurst)
}

var sumSeed = maphash.MakeSeed()

// sum is a fingerprint of a response: the same for the same resources in another
// order, as servers that keep them in a map send them. Versions count, because
// what is accepted of a response gets them.
func (r *response) sum() uint64 {
	total := hashOf("version", r.version, nil)
	for _, res := range r.resources {
		total += hashOf(res.Name, res.Version, res.Body)
	}
	for _, name := range r.removed {
		total += hashOf("removed", name, nil)
	}
	for _, e := range r.errors {
		total += hashOf("error", e.Name+"\x00"+e.Message, nil)
	}
	return max(total, 1) // 0 is none
}

// rejectedSum is a fingerprint of the rejected bytes of a response, whatever
// their versions and the rest of it.
func (r *response) rejectedSum(rejected []Rejected) uint64 {
	names := make(map[string]bool, len(rejected))
	for _, rej := range rejected {
		names[rej.Name] = true
	}
	var total uint64
	for _, res := range r.resources {
		if names[""] || names[res.Name] {
			total += hashOf(res.Name, "", res.Body)
		}
	}
	for name := range names {
		total += hashOf("name", name, nil)
	}
	return max(total, 1)
}

func hashOf(a, b string, body []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	maphash.WriteComparable(&h, [2]string{a, b})
	_, _ = h.Write(body)
	return h.Sum64()
}
