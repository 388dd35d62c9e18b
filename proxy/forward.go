package proxy

import (
	"errors"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/telemetry"
)

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
	if x.sentHead || x.want.Endpoint != nil || x.retry.at != 0 {
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
	if x.err != nil {
		return Reply
	}
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
	x.retry.sentAt = x.loop.shard.Now()
	if !x.retry.begun {
		x.retry.begun = true
		x.keepBodyFrom()
	}
	x.endpoint = x.want.Endpoint
	if f := x.Route.Forward; f.Host.Auto && x.managed() && !x.toPeer {
		if name := x.endpoint.Hostname(); name != "" {
			x.setHost([]byte(name), f.AppendXFH)
		}
	}
	head, end := &x.req, x.reqEnded && len(x.reqBody) == 0 && !x.hasTrailers
	if x.upgrading {
		if head, end = x.askUpgrade(s); head == nil {
			return
		}
	}
	s.WriteHead(head, end)
	if x.up != s || x.extended {
		return // it could not be sent, and what follows has begun; or what follows belongs to a tunnel
	}
	if len(x.reqBody) > 0 {
		x.sentBody = !x.retry.kept
		n := s.WriteData(x.reqBody, x.reqEnded && !x.hasTrailers)
		if x.up != s {
			return // likewise
		}
		x.credit(n)
		if !x.retry.kept {
			x.reqBody = x.reqBody[:0]
		}
	}
	if x.hasTrailers {
		s.WriteTrailers(&x.reqTrailers)
	}
	if x.perTry() > 0 {
		x.rearm()
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
	if (x.holding || x.retry.waits) && !x.upEnded {
		return Wait
	}
	x.storable = x.storable && x.holding // what is not held is not gathered either
	x.holding = false
	return Continue
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

// upSide is the exchange as its upstream's events see it.
type upSide Exchange

// OnUpstream takes the stream that the pool promised.
func (u *upSide) OnUpstream(s upstream.Stream) {
	x := (*Exchange)(u)
	defer x.contain()
	x.send(s)
	if x.err != nil {
		x.run()
	}
}

// OnUnavailable says that nothing could be sent.
func (u *upSide) OnUnavailable(err error) {
	x := (*Exchange)(u)
	defer x.contain()
	switch {
	case errors.Is(err, upstream.ErrMoved): // another endpoint is asked
	case errors.Is(err, upstream.ErrOpen), errors.Is(err, upstream.ErrOverflow), errors.Is(err, upstream.ErrNoUpgrade):
		x.unavailable(err)
	case x.sendAgain(tryEnd{why: triedConnect, nothing: true}):
		x.dialFailed = err
	default:
		x.dialFailed = err
		x.unavailable(err)
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
	case x.upgrading && x.granted(head, status, end):
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
	x.resp.Swap(head)
	if !x.replied() {
		x.holding = x.holdable()
		x.retry.waits = !end && x.awaitsBody()
	}
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
	if x.retry.waits {
		x.retry.waits = false
		x.run()
		if x.finished {
			return
		}
	}
	x.upEnded = end
	if end && x.tunnel {
		x.leave(upstreamConnectionEnd)
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
	x.retry.waits = false
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
	x.loop.upstreamFailed(&f)
	if f.ConnLost {
		x.loop.lost(x.cluster)
	}
	if f.Code == codeProtocol && !f.Remote {
		x.loop.tel.Count(telemetry.ResponsesMalformed, 1)
	}
	if (!x.headSeen || x.retry.waits) && !unsendable(f) && x.sendAgain(failureOf(f)) {
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
	if x.tunnel && x.tunnelOver() {
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
	x.endRetry()
	x.retry.at = 0
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
