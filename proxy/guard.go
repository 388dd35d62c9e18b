package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/telemetry"
)

const (
	// collectLimit is the largest request body that is gathered so that its
	// digest can be part of a cache key; a longer one streams and its reply is
	// not stored.
	collectLimit = 64 << 10
	// hashInline is the largest body digested on the loop: SHA-256 takes about
	// 20 µs for 16 KiB without hardware support.
	hashInline = 16 << 10
)

var errBreakerOpen = errors.New("the breaker of this tenant and metric is open")

// guard asks the key's breaker, once the request is known well enough for its
// reply to be stored.
type guard struct{ *loop }

func (g guard) Step(x *Exchange) Verdict {
	switch {
	case x.upgrading: // a tunnel is no reply that could be stored
	case x.model != nil && x.embedded(): // its inputs are stored, each under its own key
		if x.method == methodPost && !x.grpc && !x.collected && !g.collect(x) {
			return Wait
		}
	case x.cache != nil && !x.storable && !g.identify(x):
		return Wait
	}
	if x.breakers == nil {
		return Continue
	}
	now := g.shard.Now()
	decision, permit := x.breakers.Decide(x.Key, now)
	g.event(x.Key, permit.Event())
	if decision == policy.Reject {
		x.fail(quadnine.Unavailable, quadnine.Upstream, "guard", policy.BreakerOpen, errBreakerOpen)
		return Reply
	}
	x.permit, x.guarded = permit, true
	return Continue
}

// identify computes the key under which the reply may be stored. It reports
// false while the body it needs is still on its way.
func (g guard) identify(x *Exchange) bool {
	switch x.method {
	case methodGet, methodHead:
		if x.reqEnded && len(x.reqBody) == 0 {
			g.key(x)
		}
		return true
	case methodPost:
		if x.grpc || x.hashing {
			return !x.hashing
		}
		if !x.collected && !g.collect(x) {
			return false
		}
		if !x.collected {
			return true // too long: it streams
		}
		if len(x.reqBody) <= hashInline {
			x.digest = sha256.Sum256(x.reqBody)
			g.key(x)
			return true
		}
		x.hashing = g.server.workers.Submit(&x.job)
		return !x.hashing // with every worker busy the reply is not stored
	default:
		return true
	}
}

// collect reports whether the body is complete or will not be gathered.
func (g guard) collect(x *Exchange) bool {
	x.collecting = !x.reqEnded && len(x.reqBody) <= collectLimit
	if x.collecting {
		x.goOn()
		x.credit(x.owed) // gathered bytes are used bytes: the window must not stop them
		return false
	}
	x.collected = x.reqEnded && !x.hasTrailers && len(x.reqBody) <= collectLimit
	return true
}

// goOn tells a caller that waits for 100 (RFC 9110 section 10.1.1) to send its
// body: the upstream, which is asked later, cannot.
func (x *Exchange) goOn() {
	if !bytes.EqualFold(x.req.Get("expect"), []byte("100-continue")) {
		return
	}
	x.req.Del("expect")
	x.resp.Reset()
	x.resp.Add(":status", "100")
	x.down.WriteHead(&x.resp, false)
}

func (g guard) key(x *Exchange) {
	x.cacheKey = x.cache.Key(x.keyBuf, &policy.Query{
		Key: x.Key, Method: x.req.Get(":method"), Authority: x.req.Get(":authority"),
		Path: x.path, Query: x.query, HasBody: x.method == methodPost, Body: x.digest,
		Model: x.routedName(),
	}, &x.req)
	x.keyBuf = x.cacheKey.Bytes()
	x.storable = true
}

// hashBody digests a collected body on a worker.
type hashBody Exchange

// Work runs on the worker; reqBody is not written until the mail comes back.
func (h *hashBody) Work() { h.digest = sha256.Sum256(h.reqBody) }

// hashed takes the digest back on the exchange's shard.
type hashed Exchange

// Receive resumes the exchange, or frees it when it ended meanwhile.
func (h *hashed) Receive(*shard.Mail) {
	x := (*Exchange)(h)
	x.hashing = false
	if x.finished {
		x.loop.recycle(x)
		return
	}
	defer x.contain()
	if x.job.Panic != nil {
		x.crash(x.job.Panic)
		return
	}
	guard{x.loop}.key(x)
	x.run()
}

// event counts a breaker's transition; the table itself keeps no metrics.
func (l *loop) event(k quadnine.Key, e policy.Event) {
	switch e {
	case policy.Opened:
		l.tel.Count(telemetry.BreakerOpened, 1)
	case policy.HalfOpened:
		l.tel.Count(telemetry.BreakerHalfOpened, 1)
	case policy.Closed:
		l.tel.Count(telemetry.BreakerClosed, 1)
	default:
		return
	}
	l.server.transition(k, e)
}
