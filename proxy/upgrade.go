package proxy

import (
	"strings"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/upstream"
)

// asksUpgrade reports whether an HTTP/1.1 caller asks for another protocol. The wish
// for h2c is not heard: RFC 9113 section 3.1 did away with it.
func (x *Exchange) asksUpgrade() bool {
	return x.upgrade != "" && !strings.EqualFold(x.upgrade, "h2c")
}

// mayUpgrade reports whether the wish is passed on: as the route says, and where
// it says nothing of the protocol as the listener does.
func (x *Exchange) mayUpgrade() bool {
	name := strings.ToLower(x.upgrade)
	if f := x.Route.Forward; f != nil {
		if on, ok := f.Upgrades[name]; ok {
			return on
		}
	}
	return x.site.HTTP.Upgrades[name]
}

// ask101 has the request that goes to s ask for the protocol.
func (x *Exchange) ask101(s upstream.Stream) {
	if t, ok := s.(*h1.Stream); ok && x.upgrading {
		t.Upgrade = x.upgrade
	}
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
	x.run()
	if x.echoed && !x.finished {
		x.testify(policy.Success)
	}
}

// stayHTTP ends the connection of a caller that is not answered with the tunnel
// that it asked for, as Envoy does: what it has sent meanwhile may be meant for one.
func (x *Exchange) stayHTTP() {
	if x.asksUpgrade() && !x.tunnel && x.managed() && x.input == nil {
		x.conn.engine.Shutdown(false)
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

// tunnelLeft reports whether the caller has left the tunnel and all that it sent
// is on its way.
func (x *Exchange) tunnelLeft() bool {
	return x.tunnel && x.reqEnded && (x.up == nil || x.up.Buffered() == 0)
}

// closeTunnel ends a tunnel that nothing came through for long. An end that took
// everything sees a clean close.
func (x *Exchange) closeTunnel() {
	x.leftTunnel(streamIdleTimeout)
	if x.up != nil {
		x.up.WriteData(nil, true)
	}
	x.down.WriteData(nil, true)
	x.finish()
}
