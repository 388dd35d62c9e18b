package proxy

import (
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/internal/invariant"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/telemetry"
)

// observe records the try's outcome with the key's breaker, at the moment it is
// known and only once.
func (x *Exchange) observe(o policy.Outcome, reason policy.Reason) {
	if !x.guarded || x.recorded {
		return
	}
	x.recorded = true
	l := x.loop
	l.event(x.Key, x.breakers.Record(x.permit, o, reason, l.shard.Now()))
}

// finish ends the exchange: it runs exactly once on every path, cancel, reset
// and panic included. Nothing may touch x afterwards.
func (x *Exchange) finish() {
	if x.finished {
		return
	}
	x.finished = true
	l := x.loop
	now := l.shard.Now()
	l.shard.Stop(&x.timer)

	whole := x.headSent && !x.gone && !x.isLocal && x.upEnded
	switch {
	case whole && !x.toPeer && policy.Qualify(x.status) == policy.Success:
		x.observe(policy.Success, policy.Unspecified)
		if x.echoed {
			x.testify(policy.Success)
		}
	case x.computed && x.headSent && !x.gone:
		x.observe(policy.Success, policy.Unspecified)
		if x.step == policy.Explain {
			x.testify(policy.Success)
		}
	default:
		x.observe(policy.Neutral, policy.Unspecified) // a probe's lease is given back
	}
	if whole && x.storable && !x.toPeer {
		l.store(x, now)
	}
	x.dropInputs()
	if x.tunnel && !x.gone && x.err == nil {
		x.endTunnel()
	}
	if x.up != nil {
		if !x.upEnded || !x.up.WriteEnded() {
			x.up.Reset(codeCancel)
		}
		x.releaseUp()
	} else {
		l.pool.Cancel(&x.want)
	}
	if !x.down.WriteEnded() {
		x.down.Reset(codeInternal)
	}
	x.down.Release()
	x.lease.drop()
	x.endRetry()
	x.forgetRequest()
	l.server.budget.give(x.budgeted)

	in := x.input
	if in == nil && len(x.site.HTTP.AccessLogs) > 0 {
		x.ending()
		x.log()
	}
	if in == nil { // a caller asks once, whatever is asked for it
		outcome := x.outcome()
		took := now - x.start
		if x.tunnel { // it lives as long as its ends like
			took = x.answeredAt - x.start
		}
		l.tel.Request(x.Key.Tenant, outcome, telemetryStep(x.step), took)
		if x.span.Recording() {
			x.endSpan(outcome, now)
		}
		x.conn.ended(now)
		l.active.Add(-1)
	} else {
		in.settle(x)
	}
	invariant.Check(!x.guarded || x.recorded, "an outcome was not recorded: a probe's lease is lost")
	if !x.hashing && !x.evaluating {
		l.recycle(x)
	}
	if in != nil && !in.dropped {
		in.parent.run()
	}
}

// storeEvery is how young a stored reply must be for a newer one not to replace
// it: a hot query is stored once a second, not once a request.
const storeEvery = time.Second

// store keeps a whole reply for a worse moment.
func (l *loop) store(x *Exchange, now int64) {
	if x.cache.Newer(x.cacheKey, min(storeEvery, x.cache.Config().TTL/4), now) {
		return
	}
	if ok, _ := x.cache.Storable(x.status, &x.req, &x.resp); ok {
		if x.cache.Put(x.cacheKey, x.status, &x.resp, x.body, now) {
			l.tel.Count(telemetry.CacheStores, 1)
		}
	}
}

// outcome classifies the exchange for metrics.
func (x *Exchange) outcome() telemetry.Outcome {
	switch {
	case x.gone && (x.err == nil || x.err.Origin == quadnine.Downstream || x.isLocal):
		return telemetry.Canceled
	case x.gone && x.err.Origin == quadnine.Local:
		return telemetry.LocalError
	case x.gone:
		return telemetry.UpstreamError
	case x.step != policy.Explain:
		return telemetry.Degraded
	case x.err != nil && x.isLocal:
		switch {
		case x.err.Origin == quadnine.Downstream, x.status == 404:
			return telemetry.ClientError
		case x.err.Origin == quadnine.Local:
			return telemetry.LocalError
		default:
			return telemetry.UpstreamError
		}
	case x.status >= 500:
		return telemetry.UpstreamError
	case x.status >= 400:
		return telemetry.ClientError
	default:
		return telemetry.OK
	}
}

func telemetryStep(s policy.Step) telemetry.DegradeStep {
	switch s {
	case policy.Peer:
		return telemetry.StepPeer
	case policy.Stale:
		return telemetry.StepStale
	case policy.Previous:
		return telemetry.StepPrevious
	default:
		return telemetry.StepNone
	}
}

func (x *Exchange) endSpan(o telemetry.Outcome, now int64) {
	if o != telemetry.OK && o != telemetry.ClientError {
		reason := o.String()
		if x.firstErr != nil {
			reason = x.firstErr.Why()
		}
		x.span.Fail(reason)
	}
	x.span.End(x.loop.shard.Time(now),
		telemetry.String("http.request.method", string(x.req.Get(":method"))),
		telemetry.String("url.path", string(x.path)),
		telemetry.Int("http.response.status_code", int64(x.status)),
		telemetry.String("quadnine.tenant", x.Key.Tenant),
		telemetry.String("quadnine.metric", x.Key.Metric),
		telemetry.String("quadnine.outcome", o.String()),
		telemetry.String("quadnine.degraded", x.step.String()))
}

// answerTimeout is how long the reply to a request without a route may wait for
// its caller.
const answerTimeout = time.Minute

// limit is how long x may go on without progress as it stands: the route's
// time-out from the complete request to the response's head, its idle time while
// the caller has the word and once the head is sent.
func (x *Exchange) limit() int64 {
	switch {
	case x.Route == nil || x.Route.Forward == nil:
		return int64(answerTimeout)
	case x.headSent, x.callersTurn():
		return int64(x.idle())
	case x.waitsForInputs(): // each has a time-out, and another for a degrade step
		return 2*int64(x.Route.Forward.Timeout) + int64(x.idle())
	default:
		return int64(x.Route.Forward.Timeout)
	}
}

// idle is how long x may go without progress of either body.
func (x *Exchange) idle() time.Duration {
	if f := x.Route.Forward; f.HasIdle {
		return f.Idle
	}
	return x.site.HTTP.StreamIdleTimeout
}

// callersTurn reports whether everything that came of an unfinished request is
// passed on, so that only the caller can go on.
func (x *Exchange) callersTurn() bool {
	return !x.reqEnded && (x.collecting || x.up != nil && x.up.Buffered() == 0)
}

func (x *Exchange) due() int64 {
	if x.managed() {
		return x.dueByRoute()
	}
	due := x.touched + x.limit()
	if x.Deadline != 0 && !x.isLocal {
		due = min(due, x.Deadline)
	}
	return due
}

// late reports whether the caller's own deadline has passed.
func (x *Exchange) late() bool { return x.Deadline != 0 && x.loop.shard.Now() >= x.Deadline }

// arm notes progress and sets the exchange's one timer.
func (x *Exchange) arm() {
	x.touch()
	x.rearm()
}

// rearm sets the timer anew after a change that may make it due earlier.
func (x *Exchange) rearm() {
	if x.finished {
		return
	}
	if due := x.due(); due == never {
		x.loop.shard.Stop(&x.timer)
	} else {
		x.loop.shard.Arm(&x.timer, due)
	}
}

// deadline is the exchange as its timer sees it.
type deadline Exchange

// Expire ends an exchange that makes no progress, and blames whoever had to go on:
// the caller that does not read, or whose body does not come; this process that
// found no connection; otherwise the upstream.
func (d *deadline) Expire(_ *shard.Timer, now int64) {
	x := (*Exchange)(d)
	if x.finished {
		return
	}
	defer x.contain()
	if due := x.due(); now < due {
		x.rearm()
		return
	}
	switch {
	case x.tunnel:
		x.closeTunnel()
		return
	case x.managed() && x.retryDue(now):
		return
	case x.managed():
		x.overdue(now)
	case x.late() && !x.isLocal:
		x.fail(quadnine.Timeout, quadnine.Local, "response", policy.Unspecified, errTimeout)
	case x.headSent && x.down.Buffered() > 0:
		x.fail(quadnine.Timeout, quadnine.Downstream, "response", policy.Unspecified, errSlowReader)
	case x.callersTurn():
		x.fail(quadnine.Timeout, quadnine.Downstream, "body", policy.Unspecified, errSlowBody)
	case x.evaluating:
		x.fail(quadnine.Unavailable, quadnine.Local, "evaluate", policy.Overload, errBusy)
	case x.at >= atForward && !x.sentHead:
		x.noConnection()
	case x.headSent:
		x.fail(quadnine.Timeout, quadnine.Upstream, "body", policy.UpstreamTimeout, errIdle)
	default:
		x.fail(quadnine.Timeout, quadnine.Upstream, "response", policy.UpstreamTimeout, errTimeout)
	}
	if x.headSent {
		code := uint32(codeCancel)
		if x.managed() {
			code = codeInternal // as Envoy
		}
		x.breakOff(code)
		return
	}
	x.touch()
	x.timedFrom = now
	x.rearmAfter(now)           // a degrade step has its own time
	x.at = max(x.at, atForward) // its first act is to pass the error on
	x.run()
}

// managed reports whether the time-outs are those of a management server's
// configuration.
func (x *Exchange) managed() bool { return x.site.HTTP.Envoy }

// rearmAfter sets the timer as if x began to wait now.
func (x *Exchange) rearmAfter(now int64) {
	if x.managed() {
		x.rearm()
		return
	}
	x.loop.shard.Arm(&x.timer, now+x.limit())
}
