package proxy

import (
	"strconv"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/telemetry"
)

// rescue is the only place where an error becomes a reply. It takes the next
// degrade step that is possible, or explains the error, and returns the stage to
// go on with.
func (x *Exchange) rescue() int {
	err := x.err
	if err.Origin == quadnine.Downstream && err.Code == quadnine.Canceled {
		x.gone = true
		return atRespond
	}
	x.blame(err)
	if x.firstErr == nil || !x.toPeer {
		x.firstErr = err
	}
	step := x.nextStep()
	if step == policy.Previous {
		if x.answerPrevious() {
			x.dropUpstream()
			return atCompute
		}
		step = x.nextStep() // the next best
	}
	switch step {
	case policy.Peer:
		x.dropUpstream()
		x.askPeer()
		return atForward
	case policy.Stale:
		if x.answerStale() {
			x.dropUpstream()
			return atRespond
		}
	}
	if x.headSeen && x.up != nil && !x.toPeer && policy.Qualify(x.status) == policy.Failure {
		// Nothing better is at hand: the upstream's own error speaks for itself.
		x.holding, x.storable = false, false
		return atRespond
	}
	x.dropUpstream()
	x.step = policy.Explain
	x.explain(x.firstErr)
	return atRespond
}

// answerPrevious has the version before the one that failed answer, and reports
// false when there is none.
func (x *Exchange) answerPrevious() bool {
	x.previousTried = true
	if !x.other() {
		return false
	}
	x.err, x.toPeer, x.step = nil, false, policy.Previous
	x.touch()
	return true
}

// blame records err with the key's breaker and the endpoint where it is their
// doing, and not a peer's.
func (x *Exchange) blame(err *quadnine.Error) {
	why := policy.ReasonOf(err)
	if err.Origin != quadnine.Upstream || x.toPeer || !countsAgainstKey(why) {
		return
	}
	x.observe(policy.Failure, why)
	if x.routed() != nil {
		x.testify(policy.Failure)
	}
	if e := x.want.Endpoint; e != nil {
		e.Failed()
		if why == policy.UpstreamTimeout {
			e.TimedOut()
		}
	}
}

// countsAgainstKey reports whether a failure says something of the key. A refused
// connection says that the app is down, which is the cluster breaker's matter:
// it must not open 65,536 keys.
func countsAgainstKey(r policy.Reason) bool {
	switch r {
	case policy.Upstream5xx, policy.UpstreamTimeout, policy.UpstreamReset, policy.UpstreamProtocol, policy.BadInput:
		return true
	default:
		return false
	}
}

// nextStep asks policy which degrade step comes next.
func (x *Exchange) nextStep() policy.Step {
	return policy.Next(policy.Possible{
		Peer:  x.site != nil && x.site.Peers != "" && !x.asked && !x.late(),
		Hop:   x.hop,
		Fresh: x.replayable(),
		Stale: x.storable,

		Previous: !x.evaluating && x.scoreErr != nil && !x.previousTried,
	}, x.err)
}

// replayable reports whether the request can be sent again from its start:
// nothing of it was sent, or it is idempotent (a gathered query counts as that)
// and all of it is at hand.
func (x *Exchange) replayable() bool {
	if !x.sentHead {
		return true
	}
	if x.sentBody || !x.reqEnded {
		return false
	}
	return x.method.idempotent() || x.collected
}

// askPeer sends the request to another sidecar, marked so that it goes no further.
func (x *Exchange) askPeer() {
	l := x.loop
	l.tel.Count(telemetry.PeerAttempts, 1)
	x.err, x.asked, x.toPeer, x.step = nil, true, true, policy.Peer
	x.cluster = x.site.cluster(x.site.Peers)
	x.want.Tried, x.want.Repeat = 0, false
	x.retry.repeats = 0
	x.sentHead, x.headSeen, x.upEnded, x.upHasTr, x.holding = false, false, false, false, false
	x.upOwed = 0
	x.timedFrom = l.shard.Now()
	x.restore()
	x.req.Set(hopHeader, "1")
	x.touch()
}

// answerStale makes the stored reply the reply, and reports false when there is
// none.
func (x *Exchange) answerStale() bool {
	l := x.loop
	now := l.shard.Now()
	stored, age, ok := x.cache.Get(x.cacheKey, now)
	if !ok {
		l.tel.Count(telemetry.CacheMisses, 1)
		return false
	}
	l.tel.Count(telemetry.CacheHits, 1)
	x.isLocal, x.step, x.status = true, policy.Stale, stored.Status
	x.flags |= responseFromCache
	x.resp.Reset()
	x.resp.AddInt(":status", int64(stored.Status))
	for i := range stored.Len() {
		x.resp.AddBytes(stored.Name(i), stored.Value(i))
	}
	x.resp.AddInt("age", int64(age/time.Second))
	if rv := x.routed(); rv != nil { // part of the key, so it is the version that answered then
		x.resp.Add(modelHeader, rv.Name)
	}
	why := policy.ReasonOf(x.firstErr)
	x.resp.Add("x-quadnine-degraded", string(policy.AppendDegraded(nil, policy.Stale, why, age)))
	x.resp.Add("cache-status", string(policy.AppendCacheStatus(nil, policy.CacheStatus{
		Hit: true, TTL: x.cache.Config().TTL - age, Detail: why.String(),
	})))
	x.reply = stored.Body
	return true
}

// explain makes err the reply: a status, a line of text that says what, where and
// what next, and Retry-After where waiting helps. A gRPC caller gets it as
// grpc-status in a trailers-only response.
func (x *Exchange) explain(err *quadnine.Error) {
	if x.site != nil && x.site.HTTP.Envoy {
		x.sayPlainly(x.plainOf(err), err.Reason, "", "")
		return
	}
	x.isLocal = true
	x.status = err.Code.Status(err.Origin)
	after := x.retryAfter(err)
	x.local = append(x.local[:0], "quadnine: "...)
	x.local = append(x.local, oneLine(x.says(err))...)
	if after > 0 {
		x.local = append(x.local, "; try again in "...)
		x.local = strconv.AppendInt(x.local, after, 10)
		x.local = append(x.local, 's')
	}
	x.resp.Reset()
	if x.grpc {
		x.resp.Add(":status", "200")
		x.resp.Add("content-type", "application/grpc")
		x.resp.AddInt("grpc-status", grpcStatus(err.Code))
		x.resp.Add("grpc-message", grpcMessage(x.local))
		x.local = x.local[:0]
	} else {
		x.local = append(x.local, '\n')
		x.resp.AddInt(":status", int64(x.status))
		x.resp.Add("content-type", "text/plain; charset=utf-8")
		x.resp.AddInt("content-length", int64(len(x.local)))
	}
	x.reply = x.local
	if after > 0 {
		x.resp.AddInt("retry-after", after)
	}
	if x.cache != nil && err.Origin == quadnine.Upstream {
		x.resp.Add("cache-status", string(policy.AppendCacheStatus(nil, policy.CacheStatus{Detail: policy.ReasonOf(err).String()})))
	}
}

// says returns what went wrong and for whom, for the caller to read.
func (x *Exchange) says(err *quadnine.Error) string {
	what := err.Why()
	if err.Err != nil {
		what = err.Err.Error()
	}
	if x.Key == (quadnine.Key{}) {
		return what
	}
	return what + " (" + x.Key.String() + ")"
}

// retryAfter returns after how many seconds asking again can help, 0 when that
// is not known.
func (x *Exchange) retryAfter(err *quadnine.Error) int64 {
	if err.Code != quadnine.Unavailable {
		return 0
	}
	l := x.loop
	var d time.Duration
	switch policy.ReasonOf(err) {
	case policy.BreakerOpen:
		d = x.breakers.RetryAfter(err.Key, l.shard.Now())
	case policy.ClusterOpen, policy.ConnectFailed:
		if c := x.site.cluster(x.Route.Forward.Cluster); c != nil {
			d = c.RetryAfter()
		}
	}
	return int64(policy.RetryAfterSeconds(d))
}

// grpcStatus maps a code as the gRPC HTTP mapping does for its status.
func grpcStatus(c quadnine.Code) int64 {
	switch c {
	case quadnine.BadRequest:
		return 3 // INVALID_ARGUMENT
	case quadnine.Unprocessable:
		return 9 // FAILED_PRECONDITION
	case quadnine.Timeout:
		return 4 // DEADLINE_EXCEEDED
	case quadnine.TooLarge, quadnine.BodyTooLarge:
		return 8 // RESOURCE_EXHAUSTED
	case quadnine.NotFound, quadnine.Unsupported:
		return 12 // UNIMPLEMENTED
	case quadnine.Unavailable, quadnine.BadGateway:
		return 14 // UNAVAILABLE
	default:
		return 13 // INTERNAL
	}
}

// grpcMessage percent-encodes text (gRPC over HTTP/2, Status-Message).
func grpcMessage(text []byte) string {
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(text))
	for _, c := range text {
		if c >= 0x20 && c < 0x7f && c != '%' {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
