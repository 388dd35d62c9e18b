package proxy

import (
	"cmp"

	"github.com/quadnine/quadnine/telemetry"
)

// defaultBuffer is per_connection_buffer_limit_bytes' default.
const defaultBuffer = 1 << 20

// bodyLimit is how many bytes of the request's body are kept for another try: what
// the policy says, with a management server what the listener says of a connection.
// Streams of gRPC callers are kept only where a retry policy asks for it: most are
// not meant to end.
func (x *Exchange) bodyLimit() int {
	switch p := x.retryPolicy(); {
	case p == nil, p.Safe && x.grpc:
		return 0
	case p.Safe:
		return p.Buffer
	default:
		return cmp.Or(int(x.site.TCP.BufferLimit), defaultBuffer)
	}
}

// keepBodyFrom decides, as the request is first sent, whether its body is kept.
func (x *Exchange) keepBodyFrom() {
	x.retry.kept = x.collected
	if limit := x.bodyLimit(); limit > 0 && !x.collected {
		x.retry.kept = x.reserve(len(x.reqBody), limit)
	}
}

// keepRequest appends p, which is sent on, to what is kept. When it becomes too
// much nothing is kept any more: the request cannot be sent again.
func (x *Exchange) keepRequest(p []byte) {
	if !x.retry.kept || !x.reserve(len(p), x.bodyLimit()) {
		x.forgetRequest()
		x.sentBody = x.sentBody || len(p) > 0
		return
	}
	x.reqBody = append(x.reqBody, p...)
}

// reserve takes n bytes of the budget, and counts when there is no room.
func (x *Exchange) reserve(n, limit int) bool {
	if x.retry.bytes+n > limit || !x.loop.server.budget.take(n) {
		x.loop.tel.Count(telemetry.OverBudgetDrops, 1)
		return false
	}
	x.retry.bytes += n
	return true
}

// forgetRequest drops what is kept, for good.
func (x *Exchange) forgetRequest() {
	if x.retry.kept {
		x.sentBody = x.sentBody || len(x.reqBody) > 0
		x.retry.kept, x.reqBody = false, x.reqBody[:0]
	}
	x.loop.server.budget.give(x.retry.bytes)
	x.retry.bytes = 0
}
