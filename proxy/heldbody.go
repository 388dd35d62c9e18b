package proxy

import (
	"math"
	"strconv"

	"github.com/quadnine/quadnine/internal/bufpool"
	"github.com/quadnine/quadnine/telemetry"
)

// holdable reports whether the reply is held back until it is whole: where a
// stored reply can stand in for one that breaks midway. Streams never are.
func (x *Exchange) holdable() bool {
	if !x.storable || x.toPeer {
		return false
	}
	ct := x.resp.Get("content-type")
	if hasPrefixFold(ct, "application/grpc") || hasPrefixFold(ct, "text/event-stream") {
		return false
	}
	if x.announced() > x.cache.Config().MaxBodyBytes { // known before the first byte: nothing is gathered
		x.loop.tel.Count(telemetry.OverBudgetDrops, 1)
		return false
	}
	return true
}

// announced returns how long the response's body is to be by its content-length:
// 0 without one, and at most what an int32 holds.
func (x *Exchange) announced() int {
	v := x.resp.Get("content-length")
	if len(v) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(string(v), 10, 31)
	if err != nil {
		return math.MaxInt32 // the engine lets digits through only
	}
	return int(n)
}

// keepBody appends p to the kept body within the route's and the process's
// bounds. Room for all that is announced is taken at once, so that the body is
// not moved as it grows, and one that will not fit is not begun.
func (x *Exchange) keepBody(p []byte) bool {
	need := len(x.body) + len(p)
	if len(x.body) == 0 {
		need = max(need, x.announced())
	}
	more := max(need-x.bodyRoom, 0)
	if need > x.cache.Config().MaxBodyBytes || !x.loop.server.budget.take(more) {
		x.loop.tel.Count(telemetry.OverBudgetDrops, 1)
		return false
	}
	x.budgeted += more
	x.bodyRoom += more
	x.body = append(bufpool.Grow(x.body, need-len(x.body)), p...)
	return true
}

// dropBody gives back what keepBody took.
func (x *Exchange) dropBody() {
	x.loop.server.budget.give(x.budgeted)
	x.budgeted, x.bodyRoom = 0, 0
	x.body = emptied(x.body)
}

// emptied returns the room of a body that nobody reads any more, unless that is
// unusually much.
func emptied(b []byte) []byte {
	if cap(b) > keepBuffer {
		bufpool.Free(b)
		return nil
	}
	return b[:0]
}

// restPiece is how much of a whole reply is given to the caller's engine at a
// time, in bytes: what that cannot send at once it copies.
const restPiece = 64 << 10

// writeRest writes on a whole reply, as far as the caller takes it.
func (x *Exchange) writeRest() {
	for len(x.rest) > 0 && x.down.Buffered() == 0 {
		p := x.rest[:min(len(x.rest), restPiece)]
		x.rest = x.rest[len(p):]
		x.down.WriteData(p, len(x.rest) == 0)
	}
}
