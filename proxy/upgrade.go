package proxy

import (
	"bytes"
	"errors"
	"strings"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/upstream"
)

// A change of protocol is asked for in two ways: by Upgrade over HTTP/1.1 (RFC 9110
// section 7.8), by an extended CONNECT over HTTP/2 (RFC 8441). Inside, both are the
// former, a GET with a wish, and both answers are a 101; what leaves is in the words
// of the connection that it leaves on.

var (
	errTookNoTunnel = errors.New("the upstream did not take the protocol up: it answered like an ordinary request")
	errWrongAccept  = errors.New("the upstream's sec-websocket-accept does not belong to the key that it was sent")
	errUpgradeBody  = errors.New("an upgrade request with a body cannot be passed on over HTTP/2; send it without one")
)

// extend makes an extended CONNECT the wish for its protocol. What the caller sends
// after it belongs to the tunnel: the request itself is whole.
func (x *Exchange) extend(head *field.List, end bool) {
	x.extended, x.leftEarly = true, end
	x.upgrade = string(head.Get(":protocol"))
	head.Del(":protocol")
	head.Set(":method", "GET")
}

// asksUpgrade reports whether the caller asks for another protocol. The wish of
// an HTTP/1.1 caller for h2c is not heard: RFC 9113 section 3.1 did away with it.
func (x *Exchange) asksUpgrade() bool {
	return x.extended || x.upgrade != "" && !strings.EqualFold(x.upgrade, "h2c")
}

// mayUpgrade reports whether the wish is passed on: as the route says, and where
// it says nothing of the protocol as the listener does.
func (x *Exchange) mayUpgrade() bool {
	name := strings.ToLower(x.upgrade)
	if x.Route != nil && x.Route.Forward != nil {
		if on, ok := x.Route.Forward.Upgrades[name]; ok {
			return on
		}
	}
	return x.site.HTTP.Upgrades[name]
}

// pursue has the exchange go on as one that asks for a tunnel.
func (x *Exchange) pursue() {
	x.upgrading, x.asked = true, true // what comes of it can be neither repeated nor replaced
}

// askUpgrade returns the head that asks s for the protocol, and whether the request
// ends with it. It returns nil, and the exchange has failed, where s has no words
// for it.
func (x *Exchange) askUpgrade(s upstream.Stream) (head *field.List, end bool) {
	end = x.extended || x.reqEnded && len(x.reqBody) == 0 && !x.hasTrailers
	if t, ok := s.(*h1.Stream); ok {
		t.Upgrade = x.upgrade
		if x.extended && x.isWebsocket() {
			x.req.SetValue(keyField, newKey())
		}
		return &x.req, end
	}
	if !end {
		x.fail(quadnine.Unsupported, quadnine.Local, "upgrade to "+x.upgrade, policy.Unspecified, errUpgradeBody)
		return nil, false
	}
	if !field.ValidName([]byte(x.upgrade)) { // :protocol is one, and has no version
		x.fail(quadnine.Unsupported, quadnine.Local, "upgrade to "+x.upgrade, policy.Unspecified, errPlainNoTunnel)
		return nil, false
	}
	return x.extendedConnect(), false
}

// extendedConnect returns the request as RFC 8441 section 4 has it.
func (x *Exchange) extendedConnect() *field.List {
	l := &x.loop.connect
	l.Reset()
	l.Add(":method", "CONNECT")
	for _, name := range [...]string{":scheme", ":authority", ":path"} {
		if v := x.req.Get(name); v != nil {
			l.AddValue(name, v)
		}
	}
	l.Add(":protocol", x.upgrade)
	for i := range x.req.Len() {
		switch name := x.req.Name(i); {
		case len(name) == 0, name[0] == ':', string(name) == "content-length":
		case string(name) == keyField && !x.extended: // :protocol has taken its place
		default:
			l.AddBytes(name, x.req.Value(i))
			if x.req.Sensitive(i) {
				l.SetSensitive(l.Len() - 1)
			}
		}
	}
	return l
}

// granted takes the upstream's head if it makes the exchange a tunnel, and reports
// whether it does.
func (x *Exchange) granted(head *field.List, status int, end bool) bool {
	_, over := x.up.(*h2.Stream)
	switch {
	case status == 101:
		if x.extended && x.isWebsocket() && !bytes.Equal(head.Get(acceptField), acceptOf(x.req.Get(keyField))) {
			x.fail(quadnine.BadGateway, quadnine.Upstream, "upgrade to "+x.upgrade, policy.UpstreamProtocol, x.or(errPlainProtocol, errWrongAccept))
			x.run()
			return true
		}
	case over && status/100 == 2:
		head.Set(":status", "101")
		if !x.extended {
			head.Del("upgrade")
			head.Add("upgrade", x.upgrade)
			head.Del(acceptField)
			if key := x.req.Get(keyField); key != nil && x.isWebsocket() {
				head.AddValue(acceptField, acceptOf(key))
			}
		}
	default:
		return false
	}
	x.twoWay = over && x.extended
	x.switched(head)
	if end && !x.finished && x.up != nil {
		(*upSide)(x).OnUpData(nil, true)
	}
	return true
}

// or returns p on a listener of a management server, and otherwise err.
func (x *Exchange) or(p *plain, err error) error {
	if x.managed() {
		return p
	}
	return err
}

// switched takes the upstream's 101: from here on the exchange is a tunnel. For
// the breakers it is a success already: how long it lives says nothing of them.
func (x *Exchange) switched(head *field.List) {
	x.loop.responded(x.cluster)
	x.want.Endpoint.Succeeded()
	x.headSeen, x.status = true, 101
	x.headAt = max(x.loop.shard.Now(), 1)
	x.resp.CopyFrom(head)
	x.tunnel, x.reqEnded = true, false
	x.observe(policy.Success, policy.Unspecified)
	if x.extended {
		x.credit(x.up.WriteData(x.reqBody, x.leftEarly))
		x.reqBody = x.reqBody[:0]
		if x.leftEarly {
			x.leave(downstreamConnectionEnd)
		}
	}
	x.forgetRequest() // it cannot be sent again
	x.run()
	if x.echoed && !x.finished {
		x.testify(policy.Success)
	}
}

// tellExtended puts the 101 into the words of RFC 8441 section 5.
func (x *Exchange) tellExtended() {
	x.resp.Set(":status", "200")
	if !x.twoWay {
		x.resp.Del(acceptField)
	}
	x.resp.Del("upgrade")
}

// tookNone reports whether the reply would tell the caller of a tunnel that there
// is not: over HTTP/2 any 2xx does.
func (x *Exchange) tookNone() bool { return x.extended && !x.tunnel && x.status/100 == 2 }

// decline makes such a reply one that the caller cannot mistake.
func (x *Exchange) decline() {
	x.dropUpstream()
	x.resp.Reset()
	p := &plain{status: 502, text: errTookNoTunnel.Error(), details: "upgrade_declined"}
	if x.isLocal { // of our own making: a health check, a direct response, a number
		p = &plain{status: 501, text: "no protocol upgrade is served at this path", details: "upgrade_failed"}
	}
	x.grpc = false
	x.sayPlainly(p, "", "", "")
}

// beforeTunnel keeps what the caller of an extended CONNECT sends before it has
// its answer. The caller's window bounds it.
func (x *Exchange) beforeTunnel(p []byte, end bool) {
	x.received += int64(len(p))
	x.owed += len(p)
	x.leftEarly = x.leftEarly || end
	if x.headSent { // there is none
		x.credit(len(p))
		return
	}
	x.reqBody = append(x.reqBody, p...)
}

// stayHTTP ends the connection of an HTTP/1.1 caller that is not answered with the
// tunnel that it asked for, as Envoy does: what it has sent meanwhile may be meant
// for one.
func (x *Exchange) stayHTTP() {
	if x.asksUpgrade() && !x.tunnel && !x.conn.h2 && x.input == nil {
		x.conn.engine.Shutdown(false)
	}
}

// leave notes that the caller or the app has ended what it sends through a tunnel.
func (x *Exchange) leave(f flags) {
	if f == downstreamConnectionEnd {
		x.reqEnded = true
	} else {
		x.upEnded = true
	}
	if !x.twoWay {
		x.leftTunnel(f)
	}
}

// leftTunnel notes which end of a tunnel ended first, in Envoy's words. What came
// through it before is still delivered.
func (x *Exchange) leftTunnel(f flags) {
	if x.flags&(downstreamConnectionEnd|upstreamConnectionEnd|streamIdleTimeout) != 0 {
		return
	}
	x.flags |= f
	switch f {
	case downstreamConnectionEnd:
		x.details = "downstream_remote_disconnect"
	case upstreamConnectionEnd:
		x.details = "upstream_reset_after_response_started{connection_termination}"
	default:
		x.details = "stream_idle_timeout"
	}
}

// tunnelOver reports whether nothing more can come through the tunnel, and all that
// came is on its way. Between two HTTP/2 streams each direction has an end of its
// own; elsewhere the first end is that of both.
func (x *Exchange) tunnelOver() bool {
	callerLeft := x.up == nil || x.reqEnded && x.up.Buffered() == 0
	appLeft := x.upEnded && x.down.Buffered() == 0
	if x.twoWay {
		return callerLeft && appLeft
	}
	return callerLeft || appLeft
}

// closeTunnel ends a tunnel that nothing came through for long.
func (x *Exchange) closeTunnel() {
	x.leftTunnel(streamIdleTimeout)
	x.finish()
}

// endTunnel ends both sides of a tunnel that nobody broke off: each that took
// everything sees a clean end.
func (x *Exchange) endTunnel() {
	if x.up != nil {
		x.up.WriteData(nil, true)
	}
	x.down.WriteData(nil, true)
}
