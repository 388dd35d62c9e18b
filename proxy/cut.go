package proxy

import (
	"errors"
	"time"

	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/telemetry"
)

// headTime is how long a head, a frame or a preface that has begun may take, and
// the acknowledgement of our SETTINGS, where the listener has no
// request_headers_timeout: what HAProxy advises for timeout http-request.
const headTime = 10 * time.Second

// A counter for each bound of the engine.
var _ = [1]struct{}{}[len(telemetry.DownstreamCut)-int(h2.Floods)]

var errSlowHead = errors.New("the connection's first bytes did not become a head or a preface in time")

// refused counts why a caller's connection ends, once.
func (c *downConn) refused(err error) {
	if c.cut {
		return
	}
	c.cut = true
	tel := c.loop.tel
	id := telemetry.RefusedParseError
	if e, ok := errors.AsType[*h2.ConnError](err); ok {
		id = telemetry.RefusedBadFrame
		if e.Flood != h2.NoFlood {
			id = telemetry.RefusedFlood
		}
		tel.Count(telemetry.DownstreamCut[e.Flood], 1)
	} else if c.badPreface {
		id = telemetry.RefusedBadPreface
	} else if e, ok := errors.AsType[*h1.Error](err); ok {
		switch {
		case e.Status == 431:
			id = telemetry.RefusedHeaderTooLarge
		case e.Status == 414:
			id = telemetry.RefusedTargetTooLong
		case e.ChunkFlood:
			tel.Count(telemetry.DownstreamChunks, 1)
		}
	}
	tel.Count(id, 1)
	c.loop.server.log.Debug("caller's connection refused", "remote", c.conn.NetConn().RemoteAddr().String(), "err", err)
}

// watchHead has what has begun come to its end within the listener's
// request_headers_timeout: a head of HTTP/1.1, a frame, header block or preface of
// HTTP/2. It costs no timer while nothing is on its way at the end of a read.
func (c *downConn) watchHead(now int64) {
	pending := true // what tells the protocol
	switch e := c.engine.(type) {
	case *h1.Conn:
		pending = e.HeadPending()
	case *h2.Conn:
		if c.heads.Armed() {
			return // it looks for itself when it fires
		}
		c.mark, pending = e.Watch()
		pending = pending || !e.SettingsAcked()
	}
	switch {
	case !pending:
		c.loop.shard.Stop(&c.heads)
	case !c.heads.Armed():
		d := c.place.site.Load().HTTP.HeadersTimeout
		if d <= 0 {
			d = headTime
		}
		c.loop.shard.Arm(&c.heads, now+int64(d))
	}
}

// headClock is a connection as that timer sees it.
type headClock downConn

// Expire ends a connection whose head did not come in time.
func (h *headClock) Expire(_ *shard.Timer, now int64) {
	c := (*downConn)(h)
	switch e := c.engine.(type) {
	case nil:
		c.slow(errSlowHead)
	case *h1.Conn:
		if e.HeadPending() {
			e.Refuse(408, "request header timeout")
			c.slow(errSlowHead)
		}
	case *h2.Conn:
		switch mark, pending := e.Watch(); {
		case pending && mark == c.mark:
			c.slow(e.Expire(h2.SlowHead))
		case !e.SettingsAcked():
			c.slow(e.Expire(h2.NoSettingsAck))
		case pending:
			c.watchHead(now)
		}
	}
}

// slow counts and ends the connection, after what its engine has to say.
func (c *downConn) slow(err error) {
	if errors.Is(err, errSlowHead) {
		c.cut = true
		c.loop.tel.Count(telemetry.DownstreamCut[h2.SlowHead], 1)
	} else {
		c.refused(err)
	}
	c.fail(err)
}
