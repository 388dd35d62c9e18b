package upstream

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/tlsconn"
	"github.com/quadnine/quadnine/snapshot"
)

// h1Conn is an HTTP/1.1 connection to an endpoint; it carries one exchange at a
// time.
type h1Conn struct {
	host     *host
	settings *snapshot.ClusterSettings
	conn     *shard.Conn
	local    *netip.AddrPort
	engine   *h1.Conn
	tls      *tlsconn.Engine // nil: plain text
	opened   uint32          // exchanges
	timer    shard.Timer     // idle
}

func newH1Conn(h *host, l link, s *snapshot.ClusterSettings) *h1Conn {
	c := &h1Conn{host: h, settings: s, conn: shard.NewConn(h.pool.shard, l.nc), local: localOf(l.nc)}
	c.timer.To = c
	c.engine = h1.NewClient(h.pool.h1Config(s), c)
	h.h1Conns++
	c.tls = l.attach(c.conn, c.engine, c)
	c.OnIdle(c.engine)
	return c
}

func (c *h1Conn) open(r *Request) Stream {
	c.host.pool.shard.Stop(&c.timer)
	s, err := c.engine.OpenStream(r.Receiver)
	if err != nil {
		return nil // it is closing; OnClosed will follow
	}
	r.Local = c.local
	if c.opened++; c.opened == c.settings.MaxRequests {
		c.engine.Shutdown(false) // after this exchange
	}
	return s
}

// OnIdle gives the connection to a waiting request or keeps it for the next.
func (c *h1Conn) OnIdle(*h1.Conn) {
	c.host.idle = append(c.host.idle, c)
	if d := c.settings.IdleTimeout; d > 0 {
		c.host.pool.shard.Arm(&c.timer, c.host.pool.shard.Now()+int64(d))
	}
	c.host.serve()
	if c.host.draining && slices.Contains(c.host.idle, c) {
		c.retire()
	}
}

// Expire closes a connection that has been idle for long.
func (c *h1Conn) Expire(*shard.Timer, int64) { c.retire() }

// retire closes an idle connection.
func (c *h1Conn) retire() {
	c.host.pool.shard.Stop(&c.timer)
	c.forget()
	if c.tls != nil {
		c.tls.End()
	}
	c.conn.Fail(errClosed)
}

func (c *h1Conn) forget() {
	c.host.idle = slices.DeleteFunc(c.host.idle, func(o *h1Conn) bool { return o == c })
}

// OnOutput has the connection flushed.
func (c *h1Conn) OnOutput(*h1.Conn) { c.conn.Dirty() }

// OnHead passes on a response head.
func (c *h1Conn) OnHead(s *h1.Stream, head *field.List, end bool) {
	s.Owner.(Receiver).OnUpHead(head, end)
}

// OnData passes on body bytes.
func (c *h1Conn) OnData(s *h1.Stream, p []byte, end bool) { s.Owner.(Receiver).OnUpData(p, end) }

// OnTrailers passes on trailers.
func (c *h1Conn) OnTrailers(s *h1.Stream, t *field.List) { s.Owner.(Receiver).OnUpTrailers(t) }

// OnSent passes on credit.
func (c *h1Conn) OnSent(s *h1.Stream, n int) { s.Owner.(Receiver).OnUpSent(n) }

// OnReset passes on an exchange's abnormal end.
func (c *h1Conn) OnReset(s *h1.Stream, err error) {
	f := Failure{Code: h1.InternalError, Reason: err.Error()}
	if e, ok := errors.AsType[*h1.StreamError](err); ok {
		f = Failure{Code: e.Code, Remote: e.Remote, Unprocessed: e.Unprocessed, ConnLost: e.ConnLost, Reason: e.Error()}
	}
	s.Owner.(Receiver).OnUpReset(f)
}

// OnClosed takes the connection out of the pool. After an answer that was no
// HTTP/1.1 the endpoint is probed anew: another program listens there now.
func (c *h1Conn) OnClosed(_ *shard.Conn, err error) {
	c.host.pool.shard.Stop(&c.timer)
	c.host.pool.cut(err)
	c.forget()
	c.host.h1Conns--
	if _, ok := errors.AsType[*h1.Error](err); ok {
		c.host.endpoint.learn(snapshot.Auto)
	}
	c.host.lost()
}
