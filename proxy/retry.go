package proxy

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// Bounds of what is repeated without a policy that asks for it: tries that the
// upstream did nothing with.
const (
	maxDials   = 3 // endpoints whose dial may fail, where a management server configures the cluster
	maxRepeats = 2 // of a request that was refused unprocessed (RFC 9113 section 8.7)
)

// tryReason is why a try did not end well.
type tryReason uint8

const (
	triedConnect tryReason = iota // no connection
	triedRefused                  // the upstream said that it did nothing, or the connection ended before it could
	triedReset                    // the stream or its connection broke before a response's head
	triedTimeout                  // per_try_timeout
	triedStatus                   // a response's head that the policy does not take for an answer
)

var retryCounters = [...]telemetry.CounterID{
	triedConnect: telemetry.RetriedConnect, triedRefused: telemetry.RetriedRefused, triedReset: telemetry.RetriedReset,
	triedTimeout: telemetry.RetriedTimeout, triedStatus: telemetry.RetriedStatus,
}

// tryEnd is how a try ended that did not end well.
type tryEnd struct {
	why     tryReason
	nothing bool // the upstream certainly did nothing
	lost    bool // the connection ended under it
	local   bool // this side ended it: what came is no HTTP
}

// retrying is what an exchange knows of its tries on the cluster it is for.
type retrying struct {
	count   uint32        // tries after the first that the policy asked for
	repeats uint8         // tries repeated without one
	again   bool          // it was sent more than once
	begun   bool          // it was sent
	held    bool          // the cluster counts it among its retries
	waits   bool          // the response's head is here, and is passed on with the first bytes of its body
	kept    bool          // reqBody is all that came of the body
	at      int64         // ns; when it is sent again, 0: now
	sentAt  int64         // ns; when it was sent last
	bytes   int           // of the process's budget, for what is kept
	perTry  time.Duration // what the caller asked for instead of per_try_timeout; 0: nothing
}

// retryPolicy is the policy for the exchange; nil: only tries that did nothing are
// repeated. Peers are a degrade step, which is taken once, and what comes of a wish
// to change the protocol cannot be repeated.
func (x *Exchange) retryPolicy() *snapshot.Retry {
	switch {
	case x.toPeer, x.upgrading:
		return nil
	case x.Route.Forward.Retry != nil || x.host == nil:
		return x.Route.Forward.Retry
	default:
		return x.host.Retry
	}
}

// sendAgain decides whether the request is sent again after a try that ended as t
// says, and prepares it. It is the only place that decides this. Where it says yes,
// the pipeline has to run.
func (x *Exchange) sendAgain(t tryEnd) bool {
	l, p := x.loop, x.retryPolicy()
	x.endRetry()
	if p != nil && !x.covers(p, t) {
		p = nil
	}
	own := p == nil || p.Safe
	free := own && t.why == triedConnect // goes on to the next endpoint: nothing was sent
	switch {
	case x.late() || x.headSent:
		return false
	case p == nil && t.why != triedConnect && t.why != triedRefused:
		return false
	case own && !t.nothing && !x.method.idempotent() && !x.collected:
		l.tel.Count(telemetry.NotRetriedMethod, 1)
		return false
	case x.sentBody:
		l.tel.Count(telemetry.NotRetriedBody, 1)
		return false
	case free:
		if x.managed() && x.want.Tried >= maxDials || !l.pool.Another(x.cluster, &x.want) {
			return false
		}
	case p == nil && x.retry.repeats >= maxRepeats, p != nil && x.retry.count >= p.Max:
		l.tel.Count(telemetry.NotRetriedLimit, 1)
		if !own {
			x.flags |= retryLimitExceeded
		}
		return false
	}
	if !l.pool.Retry(x.cluster, &x.want, own) {
		l.tel.Count(telemetry.NotRetriedBudget, 1)
		if !own {
			x.flags |= upstreamOverflow
		}
		return false
	}
	l.tel.Count(retryCounters[t.why], 1)
	x.retry.held, x.retry.again = true, true
	x.dropTry(t)
	switch {
	case free:
	case p == nil:
		x.retry.repeats++
	default:
		x.retry.count++
	}
	x.want.Repeat, x.want.Avoid = !free, 0
	if !own {
		x.want.Avoid = p.Avoid
		x.tellAttempt(t)
		x.backOff(p)
	}
	return true
}

// covers reports whether p has the request sent again after t. That no response
// came is a reset, and to 5xx and gateway-error as good as such a status.
func (x *Exchange) covers(p *snapshot.Retry, t tryEnd) bool {
	on := snapshot.OnReset | snapshot.On5xx | snapshot.OnGatewayError
	switch {
	case t.why == triedStatus:
		return x.unwanted(p)
	case t.why == triedConnect:
		on |= snapshot.OnConnectFailure | snapshot.OnResetBeforeRequest
	case t.why == triedRefused && (!t.lost || p.Safe):
		on |= snapshot.OnRefused
	case p.Safe && t.local:
		return false // bytes of a response came
	}
	return p.On&on != 0
}

// backOff sets when the request is sent again.
func (x *Exchange) backOff(p *snapshot.Retry) {
	wait := longestWait(p, x.retry.count)
	if wait <= 0 {
		return
	}
	x.retry.at = x.loop.shard.Now() + rand.Int64N(int64(wait))
	x.rearm()
}

// longestWait is how long the wait before the n-th retry is at most, n being 1 or
// more.
func longestWait(p *snapshot.Retry, n uint32) time.Duration {
	if n = min(n-1, 62); p.Backoff <= p.MaxBackoff>>n { // the other way round it may overflow
		return p.Backoff << n
	}
	return p.MaxBackoff
}

// dropTry forgets the try that ended as t says.
func (x *Exchange) dropTry(t tryEnd) {
	if e := x.want.Endpoint; e != nil && (t.why != triedStatus || x.status >= 500) { // others it has counted as answered
		e.Failed()
		if t.why == triedTimeout {
			e.TimedOut()
		}
	}
	if x.up != nil {
		if !x.upEnded || !x.up.WriteEnded() {
			x.up.Reset(codeCancel)
		}
		x.releaseUp()
	}
	x.dropBody()
	x.sentHead, x.headSeen, x.upEnded, x.upHasTr, x.holding = false, false, false, false, false
	x.upOwed, x.headAt, x.status, x.dialFailed = 0, 0, 0, nil
	x.retry.waits = false
}

// endRetry says that what the cluster counts among its retries is over.
func (x *Exchange) endRetry() {
	if x.retry.held {
		x.retry.held = false
		x.cluster.EndRetry(x.want.Priority)
	}
}

// attempts is the number of tries, as x-envoy-attempt-count tells it: those that
// were repeated because they certainly did nothing do not count.
func (x *Exchange) attempts() int64 { return 1 + int64(x.retry.count) }

// tryDue is when per_try_timeout ends the try that is under way: it runs from the
// sent request to its response's head.
func (x *Exchange) tryDue() int64 {
	if !x.sentHead || !x.reqEnded || x.headSeen || x.isLocal || x.want.Endpoint == nil {
		return math.MaxInt64
	}
	d := x.perTry()
	if d <= 0 {
		return math.MaxInt64
	}
	return max(x.retry.sentAt, x.wholeAt) + int64(d)
}

// failureOf is f as the end of a try.
func failureOf(f upstream.Failure) tryEnd {
	t := tryEnd{why: triedReset, lost: f.ConnLost, local: !f.Remote && !f.ConnLost}
	if f.Unprocessed {
		t.why, t.nothing = triedRefused, !f.ConnLost
	}
	return t
}

// unsendable reports whether f says that our engine cannot write the request,
// which no other try changes.
func unsendable(f upstream.Failure) bool {
	return !f.Remote && !f.ConnLost && !f.Unprocessed && f.Code == codeInternal
}
