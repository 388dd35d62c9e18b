package upstream

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// h2Conn is an HTTP/2 connection to an endpoint, or the attempt to find out
// whether it is one.
type h2Conn struct {
	host     *host
	settings *snapshot.ClusterSettings
	conn     *shard.Conn
	local    *netip.AddrPort
	engine   *h2.Conn
	probing  bool   // no SETTINGS yet from an endpoint of unknown protocol
	dropped  bool   // out of the pool
	opened   uint32 // streams
	restedAt int64  // ns; when the last stream ended
	timer    shard.Timer
}

func newH2Conn(h *host, l link, s *snapshot.ClusterSettings) *h2Conn {
	c := &h2Conn{host: h, settings: s, conn: shard.NewConn(h.pool.shard, l.nc), local: localOf(l.nc)}
	c.timer.To = c
	c.probing = h.protocol() == snapshot.Auto
	c.engine = h2.NewClient(h.pool.h2Config(s), c)
	h.h2 = append(h.h2, c)
	l.attach(c.conn, c.engine, c)
	if c.probing || h.key.tunnels {
		h.pool.shard.Arm(&c.timer, h.pool.shard.Now()+int64(connectTimeout(s)))
	} else {
		h.serve()
		c.rest()
	}
	return c
}

// hasRoom reports whether the connection can carry one more stream.
func (c *h2Conn) hasRoom() bool {
	return !c.probing && (!c.host.key.tunnels || c.engine.TakesExtendedConnect()) && c.engine.CanOpen() && (c.settings.MaxStreams == 0 || c.engine.Active() < int(c.settings.MaxStreams))
}

// open returns a stream for r, or nil when the connection can carry no more.
func (c *h2Conn) open(r *Request) Stream {
	s, err := c.engine.OpenStream(r.Receiver)
	if err != nil {
		return nil
	}
	r.conn, r.Local = c, c.local
	if c.opened++; c.opened == c.settings.MaxRequests {
		c.drop() // after the streams that are on it
	}
	return s
}

// idleTimeout is how long the connection may carry no stream; 0: as long as it
// likes, which is how those of flags are.
func (c *h2Conn) idleTimeout() int64 {
	if c.settings.Balance.Policy == snapshot.LeastOfTwo {
		return 0
	}
	return int64(c.settings.IdleTimeout)
}

// released is called when a stream is released.
func (c *h2Conn) released() {
	if c.engine.Active() == 0 {
		c.rest()
	}
}

// rest looks what becomes of a connection that may be without streams.
func (c *h2Conn) rest() {
	if c.engine.Active() > 0 || c.probing {
		return
	}
	if c.dropped || c.host.draining && c.host.first == nil {
		c.retire()
		return
	}
	if d := c.idleTimeout(); d > 0 {
		c.restedAt = c.host.pool.shard.Now()
		if !c.timer.Armed() {
			c.host.pool.shard.Arm(&c.timer, c.restedAt+d)
		}
	}
}

// retire closes a connection without streams.
func (c *h2Conn) retire() {
	c.host.pool.shard.Stop(&c.timer)
	c.drop()
	c.engine.Shutdown(true)
	c.conn.Dirty()
}

// Expire ends a probe that got no answer: a server that waits for the rest of a
// request line speaks HTTP/1.1. Otherwise it closes a connection that has been
// idle for long.
func (c *h2Conn) Expire(_ *shard.Timer, now int64) {
	if c.probing {
		c.fellBack()
		c.conn.Fail(h2.ErrNotHTTP2)
		return
	}
	if c.host.key.tunnels && !c.engine.SettingsReceived() {
		c.host.refuse(ErrNoUpgrade)
		c.drop()
		c.conn.Fail(h2.ErrNotHTTP2)
		return
	}
	if c.engine.Active() > 0 {
		return // rest follows
	}
	if due := c.restedAt + c.idleTimeout(); now < due {
		c.host.pool.shard.Arm(&c.timer, due)
		return
	}
	c.retire()
}

func (c *h2Conn) fellBack() {
	c.probing = false
	c.host.endpoint.learn(snapshot.H1)
	c.host.pool.events.FellBack()
	c.drop()
	c.host.serveLater() // the connection may take its time to close
}

// drop takes the connection out of the pool; exchanges on it go on.
func (c *h2Conn) drop() {
	if !c.dropped {
		c.dropped = true
		c.host.leaving++
		c.host.h2 = slices.DeleteFunc(c.host.h2, func(o *h2Conn) bool { return o == c })
	}
}

// OnSettings ends a probe: the endpoint speaks HTTP/2.
func (c *h2Conn) OnSettings(*h2.Conn) {
	if c.probing {
		c.probing = false
		c.host.pool.shard.Stop(&c.timer)
		c.host.endpoint.learn(snapshot.H2C)
	}
	c.host.endpoint.extends.Store(c.engine.TakesExtendedConnect())
	if c.host.key.tunnels {
		c.host.pool.shard.Stop(&c.timer)
	}
	c.host.serve()
	c.rest()
}

// OnGoAway leaves the connection to the exchanges that are on it. Who waits for
// one of its streams gets another connection.
func (c *h2Conn) OnGoAway(*h2.Conn) {
	c.drop()
	c.host.serveLater()
}

// OnOutput has the connection flushed.
func (c *h2Conn) OnOutput(*h2.Conn) { c.conn.Dirty() }

// OnHead passes on a response head.
func (c *h2Conn) OnHead(s *h2.Stream, head *field.List, end bool) {
	s.Owner.(Receiver).OnUpHead(head, end)
}

// OnData passes on body bytes.
func (c *h2Conn) OnData(s *h2.Stream, p []byte, end bool) { s.Owner.(Receiver).OnUpData(p, end) }

// OnTrailers passes on trailers.
func (c *h2Conn) OnTrailers(s *h2.Stream, t *field.List) { s.Owner.(Receiver).OnUpTrailers(t) }

// OnSent passes on credit.
func (c *h2Conn) OnSent(s *h2.Stream, n int) { s.Owner.(Receiver).OnUpSent(n) }

// OnReset passes on a stream's abnormal end.
func (c *h2Conn) OnReset(s *h2.Stream, err error) {
	f := Failure{Code: uint32(h2.InternalError), Reason: err.Error()}
	if e, ok := errors.AsType[*h2.StreamError](err); ok {
		f = Failure{Code: uint32(e.Code), Remote: e.Remote, Unprocessed: e.Unprocessed, ConnLost: e.ConnLost, Reason: e.Error()}
	}
	s.Owner.(Receiver).OnUpReset(f)
}

// OnClosed takes the connection out of the pool. A connection that ended while
// it was probed means HTTP/1.1: such servers refuse the preface in many ways.
func (c *h2Conn) OnClosed(_ *shard.Conn, err error) {
	c.host.pool.shard.Stop(&c.timer)
	c.host.pool.cut(err)
	switch {
	case c.probing:
		c.fellBack()
	case errors.Is(err, h2.ErrNotHTTP2) && c.host.endpoint.forced == snapshot.Auto:
		c.host.endpoint.learn(snapshot.H1) // another program listens there now
	}
	c.drop()
	c.host.leaving--
	c.host.lost()
}
