package proxy

import (
	"bytes"
	"strings"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/telemetry"
)

// respond writes the reply's head and what is there of its body, then waits
// until the last byte has left.
type respond struct{ *loop }

func (r respond) Step(x *Exchange) Verdict {
	if !x.headSent {
		x.headSent = true
		x.arm()
		x.answeredAt = x.touched
		if !x.tunnel {
			x.forgetRequest() // it is not sent again: who goes on sending holds no budget
		}
		x.stayHTTP()
		if x.tookNone() {
			x.decline()
		}
		if x.input == nil && r.server.leaving.Load() {
			x.conn.leave()
		}
		if !x.conn.h2 && x.input == nil && r.server.overload.takes(EndKeepAlives) {
			r.tel.Count(telemetry.KeepAlivesEnded, 1)
			x.conn.engine.Shutdown(false)
		}
		if x.isLocal {
			r.local(x)
		} else {
			r.relay(x)
		}
	}
	if x.tunnel {
		if x.tunnelOver() {
			return Continue
		}
		return Wait
	}
	if x.isLocal || x.upEnded {
		if x.down.Buffered() == 0 {
			return Continue
		}
	}
	return Wait
}

// local sends a reply of our own making or from the cache.
func (respond) local(x *Exchange) {
	if x.managed() && x.input == nil {
		x.decorate()
	}
	bodyless := len(x.reply) == 0 || x.method == methodHead
	x.whole()
	x.down.WriteHead(&x.resp, bodyless)
	if !bodyless {
		x.sent += int64(len(x.reply))
		x.rest = x.reply
		x.writeRest()
	}
}

// whole says, before the head is written, that nothing more of the reply is
// awaited.
func (x *Exchange) whole() {
	if s, ok := x.down.(*h1.Stream); ok {
		s.Whole()
	}
}

// bypassed says that the reply is the upstream's own (RFC 9211).
var bypassed = field.NewFixed("cache-status", "quadnine; fwd=bypass")

// relay sends the upstream's reply as far as it has come.
func (respond) relay(x *Exchange) {
	if !x.toPeer { // only a sidecar may speak in our headers
		stripOurs(&x.resp)
	}
	x.echo(&x.resp)
	if x.step != policy.Explain {
		x.resp.Add("x-quadnine-degraded", string(policy.AppendDegraded(nil, x.step, policy.ReasonOf(x.firstErr), -1)))
	}
	if x.cache != nil { // the cache is not asked while the upstream is well
		x.resp.AddFixed(bypassed)
	}
	if x.managed() && x.input == nil {
		x.serve()
		x.mutateResponse()
		x.decorate()
	}
	if !x.conn.h2 && x.resp.Has("trailer") {
		x.resp.Del("content-length") // HTTP/1.1 carries trailers only in chunked bodies
	}
	if x.tunnel && x.extended {
		x.tellExtended()
	}
	end := x.upEnded && !x.upHasTr
	if end {
		x.whole()
	}
	x.down.WriteHead(&x.resp, end && len(x.body) == 0)
	x.sent += int64(len(x.body)) // its credit was given while it was held
	switch {
	case end:
		x.rest = x.body
		x.writeRest()
	case len(x.body) > 0:
		x.down.WriteData(x.body, false)
		if !x.storable {
			x.dropBody()
		}
	}
	if x.upHasTr {
		x.down.WriteTrailers(&x.trailers)
	}
}

// stripOurs deletes the fields that only a sidecar may set.
func stripOurs(l *field.List) {
	if !l.MayBegin(ownPrefix) {
		return
	}
	for i := range l.Len() {
		if bytes.HasPrefix(l.Name(i), []byte(ownPrefix)) {
			l.DelAt(i)
		}
	}
}

// oneLine keeps an error's text from breaking out of a line of text.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
