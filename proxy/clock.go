package proxy

import (
	"math"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
)

// never is when an exchange without a deadline is due.
const never = math.MaxInt64

// dueByRoute is the earliest of the deadlines that Envoy has for a request: the whole
// request, progress of either body, the whole response.
func (x *Exchange) dueByRoute() int64 {
	due := int64(never)
	if d := x.idleTime(); d > 0 {
		due = x.touched + d
	}
	if d := int64(x.site.HTTP.RequestTimeout); d > 0 && !x.reqEnded && !x.headSent && !x.headSeen {
		due = min(due, x.start+d)
	}
	if x.routeTimes() {
		due = min(due, x.timedFrom+int64(x.timeout))
	}
	if x.retry.at != 0 {
		due = min(due, x.retry.at)
	}
	return min(due, x.tryDue())
}

// routeTimes reports whether the route's time-out runs: from the whole request
// to the whole response.
func (x *Exchange) routeTimes() bool {
	return x.dispatched && x.timeout > 0 && x.reqEnded && !x.isLocal && !x.upEnded && !x.tunnel
}

// idleTime is how long the exchange may go without progress, in ns.
func (x *Exchange) idleTime() int64 {
	if x.Route != nil && x.Route.Forward != nil && x.Route.Forward.HasIdle {
		return int64(x.Route.Forward.Idle)
	}
	return int64(x.site.HTTP.StreamIdleTimeout)
}

// overdue ends an exchange whose deadline is past with Envoy's reply.
func (x *Exchange) overdue(now int64) {
	switch {
	case x.routeTimes() && now >= x.timedFrom+int64(x.timeout):
		p := errPlainRouteTime
		if x.altTimeout {
			p = errPlainAltTime
		}
		origin, reason := quadnine.Upstream, policy.UpstreamTimeout
		if x.at >= atForward && !x.sentHead { // no connection in time: not the key's doing
			origin, reason = quadnine.Local, policy.Overload
		}
		x.fail(quadnine.Timeout, origin, "response", reason, p)
	case now >= x.tryDue():
		x.fail(quadnine.Timeout, quadnine.Upstream, "response", policy.UpstreamTimeout, errPlainTryTime)
	case !x.reqEnded && !x.headSent && x.site.HTTP.RequestTimeout > 0 && now >= x.start+int64(x.site.HTTP.RequestTimeout):
		x.fail(quadnine.Timeout, quadnine.Downstream, "body", policy.Unspecified, errPlainRequestTime)
	case x.headSent && x.down.Buffered() > 0:
		x.fail(quadnine.Timeout, quadnine.Downstream, "response", policy.Unspecified, errPlainIdle)
	case !x.reqEnded, x.upgrading:
		x.fail(quadnine.Timeout, quadnine.Downstream, "body", policy.Unspecified, errPlainIdleCaller)
	default:
		x.fail(quadnine.Timeout, quadnine.Upstream, "response", policy.UpstreamTimeout, errPlainIdle)
	}
}

// retryDue reports whether the exchange goes on with another try: the time before
// it is over, or the one under way took too long.
func (x *Exchange) retryDue(now int64) bool {
	switch {
	case x.routeTimes() && now >= x.timedFrom+int64(x.timeout):
		return false // no time is left
	case x.retry.at != 0 && now >= x.retry.at:
		x.retry.at = 0
	case now < x.tryDue() || !x.sendAgain(tryEnd{why: triedTimeout}):
		return false
	}
	x.rearm()
	x.run()
	return true
}
