package proxy

import (
	"errors"
	"math/rand/v2"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
)

var errNoRoute = errors.New("no route covers this path")

// route matches the request once.
type route struct{ *loop }

func (r route) Step(x *Exchange) Verdict {
	if x.site.table != nil {
		x.host = x.site.table.Host(x.req.Get(":authority"))
	}
	if x.host != nil {
		x.Route = x.host.Match(&snapshot.Input{Path: x.path, Query: x.query, Fields: &x.req, Draw: x.random(), Runtime: x.site.snap.Runtime})
	}
	if x.Route == nil && x.site.HTTP.Envoy && x.input == nil {
		x.arm()
		return Continue // a filter may answer
	}
	if x.Route == nil {
		x.fail(quadnine.NotFound, quadnine.Local, "route", policy.Unspecified, errNoRoute)
		return Reply
	}
	p := x.Route.Over(x.host.Policies).Over(x.site.Policies)
	if f := x.Route.Forward; f != nil && len(f.Weighted) > 0 {
		if x.weighted = f.Pick(x.random()); x.weighted != nil {
			p = x.weighted.Over(p)
		}
	}
	x.policies = p
	x.breakers, x.cache = r.tables(x.site.state, p)
	x.arm()
	return Continue
}

// found is the tables that the last request's policies name: mostly the next one's
// too.
type found struct {
	state    *state
	breaker  *snapshot.Breaker
	cache    *snapshot.Cache
	breakers *policy.Breakers
	caches   *policy.Cache
}

// tables returns what runs for p.
func (l *loop) tables(s *state, p snapshot.Policies) (*policy.Breakers, *policy.Cache) {
	f := &l.found
	if f.state != s || f.breaker != p.Breaker || f.cache != p.Cache {
		*f = found{s, p.Breaker, p.Cache, s.breakers[p.Breaker], s.caches[p.Cache]}
	}
	return f.breakers, f.caches
}

// random returns the exchange's number for everything that is drawn by lot: one
// for all draws, as in Envoy.
func (x *Exchange) random() uint64 {
	if x.lot == 0 {
		x.lot = rand.Uint64() | 1<<63
	}
	return x.lot
}
