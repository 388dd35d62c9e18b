package proxy

import (
	"errors"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/telemetry"
)

// maxTries bounds the tries of one exchange on one cluster: a try that certainly
// did nothing (RFC 9113 section 8.7) is repeated, others are not.
const maxTries = 3

var (
	errTimeout    = errors.New("no response in time")
	errSlowBody   = errors.New("the request body stopped coming")
	errIdle       = errors.New("no progress of either body")
	errSlowReader = errors.New("the caller stopped reading")
	errNoRoom     = errors.New("no connection had room in time")
	errBadStatus  = errors.New("the response has no valid status")
	errUpstream5x = errors.New("the upstream answered with a server error")
)

// forward obtains a stream, sends the request and waits for the response's head,
// or for all of it where the reply is held back until it is known to be whole.
type forward struct{ *loop }

func (f forward) Step(x *Exchange) Verdict {
	if x.err != nil {
		return Reply
	}
	if x.headSeen {
		return f.judge(x)
	}
	if x.sentHead || x.want.Endpoint != nil {
		return Wait
	}
	if x.cluster == nil && !x.dispatch() {
		return Reply
	}
	x.want.Priority, x.want.Caller, x.want.Upgrade = x.Route.Forward.Priority, x.conn.protocol(), x.upgrading
	s, err := f.pool.Open(x.cluster, &x.want)
	switch {
	case err != nil:
		x.unavailable(err)
		return Reply
	case s == nil:
		x.endpoint = x.want.Endpoint
		return Wait
	}
	x.send(s)
	return Wait
}

// unavailable says why no stream can be had. When an endpoint was tried and all
// are used up, the failed dial is the reason.
func (x *Exchange) unavailable(err error) {
	if x.managed() {
		err = x.plainly(err)
	}
	switch {
	case errors.Is(err, upstream.ErrNoUpgrade):
		x.fail(quadnine.Unsupported, quadnine.Local, "upgrade to "+x.upgrade, policy.Unspecified, errPlainNoTunnel)
	case errors.Is(err, errPlainOverflow):
		x.fail(quadnine.Unavailable, quadnine.Local, "connect", policy.Overload, err)
	case errors.Is(err, upstream.ErrOpen):
		x.fail(quadnine.Unavailable, quadnine.Upstream, "connect", policy.ClusterOpen, err)
	case errors.Is(err, upstream.ErrOverflow):
		x.fail(quadnine.Unavailable, quadnine.Local, "connect", policy.Overload, err)
	default:
		x.fail(quadnine.Unavailable, quadnine.Upstream, "connect", policy.ConnectFailed, err)
	}
}

// noConnection says that the time to find a stream ran out: another request's
// doing where connections are open, and otherwise the app's, but never the key's.
func (x *Exchange) noConnection() {
	if e := x.want.Endpoint; e != nil && e.Conns() == 0 {
		x.fail(quadnine.Unavailable, quadnine.Upstream, "connect", policy.ConnectFailed, errTimeout)
		return
	}
	x.fail(quadnine.Unavailable, quadnine.Local, "connect", policy.Overload, errNoRoom)
}

// send gives the request, as far as it has come, to the upstream.
func (x *Exchange) send(s upstream.Stream) {
	x.up, x.sentHead = s, true
	x.tries++
	x.endpoint = x.want.Endpoint
	if f := x.Route.Forward; f.Host.Auto && x.managed() && !x.toPeer {
		if name := x.endpoint.Hostname(); name != "" {
			x.setHost([]byte(name), f.AppendXFH)
		}
	}
	bodyless := x.reqEnded && len(x.reqBody) == 0
	x.ask101(s)
	s.WriteHead(&x.req, bodyless && !x.hasTrailers)
	if x.up != s {
		return // it could not be sent, and what follows has begun
	}
	if len(x.reqBody) > 0 {
		x.sentBody = !x.collected
		x.credit(s.WriteData(x.reqBody, x.reqEnded && !x.hasTrailers))
		if !x.collected {
			x.reqBody = x.reqBody[:0]
		}
	}
	if x.hasTrailers {
		s.WriteTrailers(&x.reqTrailers)
	}
}

// credit opens the caller's window for n bytes that were used.
func (x *Exchange) credit(n int) {
	if n = min(n, x.owed); n > 0 && !x.finished {
		x.owed -= n
		x.down.Consume(n)
	}
}

// judge looks at the response's head.
func (f forward) judge(x *Exchange) Verdict {
	if policy.Qualify(x.status) == policy.Failure {
		if x.toPeer {
			x.fail(quadnine.BadGateway, quadnine.Upstream, "peer", policy.Upstream5xx, errUpstream5x)
			return Reply
		}
		x.fail(quadnine.BadGateway, quadnine.Upstream, "response", policy.Upstream5xx, errUpstream5x)
		return Reply // rescue lets it through where nothing better is at hand
	}
	if x.holding && !x.upEnded {
		return Wait
	}
	x.storable = x.storable && x.holding // what is not held is not gathered either
	x.holding = false
	return Continue
}

// holdable reports whether the reply is held back until it is whole: where a
// stored reply can stand in for one that breaks midway. Streams never are.
func (x *Exchange) holdable() bool {
	if !x.storable || x.toPeer {
		return false
	}
	ct := x.resp.Get("content-type")
	return !hasPrefixFold(ct, "application/grpc") && !hasPrefixFold(ct, "text/event-stream")
}

func hasPrefixFold(b []byte, lower string) bool {
	if len(b) < len(lower) {
		return false
	}
	for i := range len(lower) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// retryable reports whether the same request may be sent again after f.
func (x *Exchange) retryable(f upstream.Failure) bool {
	if x.sentBody || x.tries >= maxTries || x.headSeen {
		return false
	}
	return f.Unprocessed && (!f.ConnLost || x.method.idempotent())
}

// upSide is the exchange as its upstream's events see it.
type upSide Exchange

// OnUpstream takes the stream that the pool promised.
func (u *upSide) OnUpstream(s upstream.Stream) {
	x := (*Exchange)(u)
	defer x.contain()
	x.send(s)
}

// OnUnavailable tries the next endpoint: nothing was sent.
func (u *upSide) OnUnavailable(err error) {
	x := (*Exchange)(u)
	defer x.contain()
	if errors.Is(err, upstream.ErrOpen) || errors.Is(err, upstream.ErrOverflow) {
		x.unavailable(err)
	} else {
		x.dialFailed = err
	}
	x.run()
}

// OnUpHead takes a response head; an informational one passes straight on.
func (u *upSide) OnUpHead(head *field.List, end bool) {
	x := (*Exchange)(u)
	defer x.contain()
	x.touch()
	status, ok := parseStatus(head.Get(":status"))
	switch {
	case !ok:
		x.fail(quadnine.BadGateway, quadnine.Upstream, "response", policy.UpstreamProtocol, errBadStatus)
		x.run()
		return
	case status == 101 && x.upgrading:
		x.switched(head)
		return
	case status < 200 && x.managed() && !x.site.HTTP.Proxy100: // as Envoy
		return
	case status < 200:
		x.resp.CopyFrom(head)
		stripOurs(&x.resp)
		x.down.WriteHead(&x.resp, false)
		return
	}
	x.loop.responded(x.cluster)
	if status < 500 {
		x.want.Endpoint.Succeeded()
	}
	x.headSeen, x.status, x.upEnded = true, status, end
	x.headAt = max(x.loop.shard.Now(), 1)
	x.resp.CopyFrom(head)
	x.holding = x.holdable()
	x.run()
}

func parseStatus(b []byte) (int, bool) {
	if len(b) != 3 || b[0] < '1' || b[0] > '9' || b[1] < '0' || b[1] > '9' || b[2] < '0' || b[2] > '9' {
		return 0, false
	}
	return int(b[0]-'0')*100 + int(b[1]-'0')*10 + int(b[2]-'0'), true
}

// OnUpData takes body bytes: into the held reply, or on to the caller.
func (u *upSide) OnUpData(p []byte, end bool) {
	x := (*Exchange)(u)
	defer x.contain()
	x.touch()
	if x.holding && x.keepBody(p) {
		x.upEnded = end
		x.up.Consume(len(p))
		if end {
			x.run()
		}
		return
	}
	if x.holding { // too long to hold: what was gathered goes out and the rest streams
		x.holding, x.storable = false, false
		x.run()
		if x.finished {
			return
		}
	}
	x.upEnded = end
	if end && x.tunnel {
		x.leftTunnel(upstreamConnectionEnd)
	}
	if x.headSent && !x.gone {
		x.upOwed += len(p)
		x.sent += int64(len(p))
		x.creditUp(x.down.WriteData(p, end && !x.upHasTr))
		if end {
			x.run()
		}
	}
}

// keepBody appends p to the kept body within the route's and the process's
// bounds.
func (x *Exchange) keepBody(p []byte) bool {
	if len(x.body)+len(p) > x.cache.Config().MaxBodyBytes || !x.loop.server.budget.take(len(p)) {
		x.loop.tel.Count(telemetry.OverBudgetDrops, 1)
		return false
	}
	x.budgeted += len(p)
	x.body = append(x.body, p...)
	return true
}

// dropBody gives back what keepBody took.
func (x *Exchange) dropBody() {
	x.loop.server.budget.give(x.budgeted)
	x.budgeted, x.body = 0, x.body[:0]
}

// creditUp opens the upstream's window for n bytes that the caller's side took.
func (x *Exchange) creditUp(n int) {
	if n = min(n, x.upOwed); n > 0 && x.up != nil {
		x.upOwed -= n
		x.up.Consume(n)
	}
}

// OnUpTrailers ends the response.
func (u *upSide) OnUpTrailers(t *field.List) {
	x := (*Exchange)(u)
	defer x.contain()
	x.touch()
	x.trailers.CopyFrom(t)
	if !x.toPeer {
		stripOurs(&x.trailers)
	}
	x.upEnded, x.upHasTr, x.storable = true, true, false
	if x.headSent && !x.gone {
		x.down.WriteTrailers(&x.trailers)
	}
	x.run()
}

// OnUpReset ends the try: another one, an error that rescue explains, or a reset
// that the caller cannot mistake for an end.
func (u *upSide) OnUpReset(f upstream.Failure) {
	x := (*Exchange)(u)
	defer x.contain()
	if x.upEnded { // the whole response is here: only the rest of the request is not wanted
		x.releaseUp()
		return
	}
	if f.ConnLost {
		x.loop.lost(x.cluster)
	}
	if x.retryable(f) {
		x.loop.tel.Count(telemetry.UpstreamRetries, 1)
		x.releaseUp()
		x.want.Tried, x.sentHead = 0, false
		x.run()
		return
	}
	switch {
	case x.managed():
		p := plainFailure(f)
		switch p {
		case errPlainRefused:
			x.fail(quadnine.Unavailable, quadnine.Upstream, "request", policy.UpstreamRefused, p)
		case errPlainLocalReset:
			x.fail(quadnine.BadRequest, quadnine.Downstream, "request", policy.Unspecified, p)
		default:
			x.fail(quadnine.BadGateway, quadnine.Upstream, "response", policy.UpstreamReset, p)
		}
	case f.Unprocessed && !f.ConnLost:
		x.fail(quadnine.Unavailable, quadnine.Upstream, "request", policy.UpstreamRefused, errors.New("the upstream refused the request: "+f.Reason))
	case !f.Remote && !f.ConnLost && f.Code == codeInternal: // our engine could not write it
		x.fail(quadnine.BadRequest, quadnine.Downstream, "request", policy.Unspecified, errors.New("the request cannot be sent on: "+f.Reason))
	default:
		x.fail(quadnine.BadGateway, quadnine.Upstream, "response", policy.UpstreamReset, errors.New("the upstream broke off: "+f.Reason))
	}
	if x.headSent {
		x.breakOff(f.Code)
		return
	}
	x.run()
}

// OnUpSent passes credit for request bytes on to the caller.
func (u *upSide) OnUpSent(n int) {
	x := (*Exchange)(u)
	defer x.contain()
	x.touch()
	x.credit(n)
	if x.tunnelLeft() {
		x.run()
	}
}

// breakOff ends a reply that was already begun: RST_STREAM, or an aborted
// HTTP/1.1 body.
func (x *Exchange) breakOff(code uint32) {
	x.loop.tel.Count(telemetry.ResponsesReset, 1)
	if code == codeNoError {
		code = codeInternal
	}
	if x.err != x.firstErr { // rescue has not seen it
		x.blame(x.err)
	}
	x.down.Reset(code)
	x.gone = true
	x.run()
}

// dropUpstream gives up the current try.
func (x *Exchange) dropUpstream() {
	x.dropInputs()
	x.loop.pool.Cancel(&x.want)
	if x.up != nil {
		x.up.Reset(codeCancel)
		x.releaseUp()
	}
	x.dropBody()
}

func (x *Exchange) releaseUp() {
	if x.up == nil {
		return
	}
	x.up.Release()
	x.up = nil
	x.loop.pool.Done(&x.want)
}
