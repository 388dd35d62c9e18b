package proxy

import (
	"errors"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
)

var errNoRoute = errors.New("no route covers this path")

// route matches the request once.
type route struct{ *loop }

func (r route) Step(x *Exchange) Verdict {
	x.Route = r.server.snap.Match(x.path)
	if x.Route == nil {
		x.fail(quadnine.NotFound, quadnine.Local, "route", policy.Unspecified, errNoRoute)
		return Reply
	}
	x.arm()
	return Continue
}
