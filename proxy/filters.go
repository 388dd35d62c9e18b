package proxy

import (
	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/telemetry"
)

// filters runs a listener's filters, and then answers what needs no upstream: a
// request without a route, a direct response, a redirection.
type filters struct{ *loop }

func (f filters) Step(x *Exchange) Verdict {
	if !x.site.HTTP.Envoy || x.input != nil {
		if x.asksUpgrade() && x.input == nil { // decode has let it pass
			x.pursue()
		}
		return Continue
	}
	if x.site.HTTP.Unanswered {
		return Wait // for stream_idle_timeout or request_timeout
	}
	for i := range x.site.HTTP.Filters {
		if c := x.site.HTTP.Filters[i].HealthCheck; c != nil {
			x.filtered = true
			if f.health(x, c) {
				return Reply
			}
		}
	}
	switch {
	case x.Route == nil:
		return x.refuse(errPlainNoRoute, quadnine.NotFound, quadnine.Local, "route")
	case x.asksUpgrade() && !x.mayUpgrade():
		f.tel.Count(telemetry.RefusedUpgrade, 1)
		return x.refuse(errPlainUpgrade, quadnine.Unsupported, quadnine.Downstream, "upgrade to "+x.upgrade)
	case x.Route.Forward == nil:
		x.answerRoute()
		return Reply
	case x.asksUpgrade():
		x.pursue()
	}
	return Continue
}
