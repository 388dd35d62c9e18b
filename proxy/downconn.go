package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/tlsconn"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// headGrace is how long a request's head that has begun may take once the
// connection is to end.
const headGrace = 10 * time.Second

var errIdleConn = errors.New("connection idle")

// downEngine is what a downConn needs of either engine beyond the driver's needs.
type downEngine interface {
	shard.Engine
	Shutdown(final bool)
	Active() int
}

// downConn is a caller's connection: first the bytes that tell its protocol,
// then one engine.
type downConn struct {
	loop       *loop
	place      *place // where its site is looked up
	conn       *shard.Conn
	tls        *tlsconn.Engine // nil: plain text
	alpn       string          // what it negotiated
	shown      *shown          // at its handshake; nil: plain text
	engine     downEngine      // nil while detecting
	trusted    bool            // its x-quadnine-hop is kept
	remote     netip.AddrPort
	local      netip.AddrPort
	h2         bool
	extends    bool   // it was offered extended CONNECT
	malformed  uint64 // requests that were refused, as far as they are counted
	badPreface bool   // began like the HTTP/2 preface and went on otherwise

	head     []byte // bytes that came before it was put on its shard
	prefix   []byte // bytes seen while detecting
	timer    shard.Timer
	heads    shard.Timer // while a head is on its way
	mark     uint64      // h2.Conn.Watch's, when heads was armed
	cut      bool        // it was counted why the connection ends
	draining bool        // the caller was asked to go elsewhere
	final    bool        // the engine was told to end for good
	arrive   shard.Mail
}

// protocol returns what the caller speaks.
func (c *downConn) protocol() snapshot.Protocol {
	if c.h2 {
		return snapshot.H2C
	}
	return snapshot.H1
}

func newDownConn(l *loop, p *place, nc net.Conn) *downConn {
	c := &downConn{loop: l, place: p, conn: shard.NewConn(l.shard, nc)}
	c.timer.To = c
	c.heads.To = (*headClock)(c)
	c.arrive.To = c
	if ap, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil {
		c.local = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		c.trusted = p.site.Load().Trusts(c.remote.Addr())
	}
	return c
}

// Receive puts an accepted connection on its shard.
func (c *downConn) Receive(*shard.Mail) {
	l := c.loop
	l.conns[c] = struct{}{}
	l.downConns.Add(1)
	c.rest(l.shard.Now())
	c.attach(l.shard.Now())
	if l.draining || c.place.retired.Load() {
		c.drain()
	}
}

// detector is the engine of a connection whose protocol is not known yet: one
// port serves HTTP/2 with prior knowledge and HTTP/1.1.
type detector struct{ c *downConn }

// Feed looks for the HTTP/2 preface and hands over to the engine it announces.
func (d *detector) Feed(now int64, p []byte) error {
	c := d.c
	seen := p
	if len(c.prefix) > 0 {
		c.prefix = append(c.prefix, p...)
		seen = c.prefix
	}
	match, complete := h2.PrefacePrefix(seen)
	switch codec := c.place.site.Load().HTTP.Codec; {
	case codec == snapshot.CodecH1, codec == snapshot.CodecAuto && c.alpn == "http/1.1":
		match = false
	case codec == snapshot.CodecH2, codec == snapshot.CodecAuto && c.alpn == "h2":
		match, complete = true, complete || !match // what is no preface is for the engine to refuse
	}
	switch {
	case !match:
		c.badPreface = len(seen) >= 4 && string(seen[:4]) == "PRI "
		c.engine = h1.NewServer(c.h1Config(), &h1Down{c})
		c.loop.tel.Count(telemetry.DownstreamOpenedH1, 1)
	case complete:
		c.h2 = true
		cfg := c.h2Config()
		c.extends = cfg.ExtendedConnect
		c.engine = h2.NewServer(cfg, &h2Down{c})
		c.loop.tel.Count(telemetry.DownstreamOpenedH2, 1)
	default:
		if len(c.prefix) == 0 {
			c.prefix = append(c.prefix, p...)
		}
		c.watchHead(now)
		return nil
	}
	c.prefix = nil
	c.use(feeder{c.engine, c})
	if c.draining {
		c.drain()
	}
	return feeder{c.engine, c}.Feed(now, seen)
}

func (d *detector) FeedEOF()                       {}
func (d *detector) TakeOutput(spare []byte) []byte { return spare[:0] }
func (d *detector) Backlog(int)                    {}
func (d *detector) Reading() bool                  { return true }
func (d *detector) Closing() bool                  { return false }

// feeder counts what an engine refuses.
type feeder struct {
	downEngine
	c *downConn
}

// Feed passes bytes to the engine.
func (f feeder) Feed(now int64, p []byte) error {
	err := f.downEngine.Feed(now, p)
	if e, ok := f.downEngine.(*h2.Conn); ok {
		f.c.countMalformed(e.Malformed())
	}
	f.c.watchHead(now)
	if err != nil {
		f.c.refused(err)
	}
	return err
}

// countMalformed counts the HTTP/2 requests that were refused since it was called
// last, n being how many there were ever.
func (c *downConn) countMalformed(n uint64) {
	if n != c.malformed {
		c.loop.tel.Count(telemetry.RefusedMalformed, n-c.malformed)
		c.malformed = n
	}
}

// Aborted reports whether the caller must see a broken connection.
func (f feeder) Aborted() bool {
	a, ok := f.downEngine.(interface{ Aborted() bool })
	return ok && a.Aborted()
}

// ended moves the idle deadline.
func (c *downConn) ended(now int64) {
	if !c.draining {
		c.rest(now)
	}
}

// rest sets when the connection closes unless something happens on it.
func (c *downConn) rest(now int64) {
	if d := c.place.site.Load().HTTP.IdleTimeout; d > 0 {
		c.loop.shard.Arm(&c.timer, now+int64(d))
	} else {
		c.loop.shard.Stop(&c.timer)
	}
}

// drain asks the caller to go elsewhere and lets what runs finish: an HTTP/2
// connection still takes streams that the caller opened before it read the first
// GOAWAY (RFC 9113 section 6.8), an HTTP/1.1 connection one more request, until
// the drain time-out.
func (c *downConn) drain() {
	c.draining = true
	if c.engine != nil {
		c.engine.Shutdown(false)
	}
	c.loop.shard.Arm(&c.timer, c.loop.shard.Now()+int64(c.place.site.Load().HTTP.DrainTimeout))
	c.conn.Dirty()
}

// Expire closes an idle connection, or sends the last GOAWAY of a drained one. What
// stays idle after that holds a head that does not end.
func (c *downConn) Expire(_ *shard.Timer, now int64) {
	switch {
	case c.engine == nil, c.final && c.engine.Active() == 0:
		c.fail(errIdleConn)
		return
	case c.engine.Active() > 0 && !c.draining:
		c.rest(now)
		return
	}
	c.final = true
	c.engine.Shutdown(true)
	c.loop.shard.Arm(&c.timer, now+int64(headGrace))
	c.conn.Dirty()
}

// OnClosed forgets the connection.
func (c *downConn) OnClosed(_ *shard.Conn, err error) {
	l := c.loop
	l.shard.Stop(&c.timer)
	l.shard.Stop(&c.heads)
	delete(l.conns, c)
	l.downConns.Add(-1)
	l.server.overload.leave()
	if errors.Is(err, shard.ErrStalled) {
		l.tel.Count(telemetry.DownstreamStalled, 1)
	}
	switch {
	case c.engine == nil:
	case c.h2:
		l.tel.Count(telemetry.DownstreamClosedH2, 1)
	default:
		l.tel.Count(telemetry.DownstreamClosedH1, 1)
	}
	if _, ok := errors.AsType[*tlsconn.Error](err); ok {
		l.tel.Count(telemetry.TLSBroken, 1)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.server.log.Debug("caller's connection ended", "err", err)
	}
	l.server.connClosed(l)
}

// h2Down turns an HTTP/2 connection's events into exchanges.
type h2Down struct{ *downConn }

// OnHead begins an exchange.
func (c *h2Down) OnHead(s *h2.Stream, head *field.List, end bool) {
	if c.loop.server.overload.takes(RefuseStreams) {
		c.loop.tel.Count(telemetry.RefusedOverload, 1)
		s.Reset(codeRefused)
		s.Release()
		return
	}
	x := c.loop.begin(c.downConn, s)
	s.Owner = x
	x.tooLarge = s.TooLarge
	if c.extends && head.Has(":protocol") {
		x.extend(head, end)
		end = true
	}
	x.accept(head, end)
}

// OnData takes request body bytes.
func (c *h2Down) OnData(s *h2.Stream, p []byte, end bool) { s.Owner.(*Exchange).onData(p, end) }

// OnTrailers ends the request.
func (c *h2Down) OnTrailers(s *h2.Stream, t *field.List) { s.Owner.(*Exchange).onTrailers(t) }

// OnReset ends the exchange: the caller is gone.
func (c *h2Down) OnReset(s *h2.Stream, err error) {
	if x, ok := s.Owner.(*Exchange); ok {
		x.onCancel(err)
	}
}

// OnSent passes credit on to the upstream.
func (c *h2Down) OnSent(s *h2.Stream, n int) { s.Owner.(*Exchange).onSent(n) }

// OnOutput has the connection flushed.
func (c *h2Down) OnOutput(*h2.Conn) { c.conn.Dirty() }

// OnSettings needs no action.
func (c *h2Down) OnSettings(*h2.Conn) {}

// OnGoAway needs no action: the caller opens the streams.
func (c *h2Down) OnGoAway(*h2.Conn) {}

// h1Down turns an HTTP/1.1 connection's events into exchanges.
type h1Down struct{ *downConn }

// OnHead begins an exchange.
func (c *h1Down) OnHead(s *h1.Stream, head *field.List, end bool) {
	c.loop.shard.Stop(&c.heads)
	x := c.loop.begin(c.downConn, s)
	s.Owner = x
	x.tooLarge, x.upgrade = s.TooLarge, s.Upgrade
	x.accept(head, end)
}

// OnData takes request body bytes.
func (c *h1Down) OnData(s *h1.Stream, p []byte, end bool) { s.Owner.(*Exchange).onData(p, end) }

// OnTrailers ends the request.
func (c *h1Down) OnTrailers(s *h1.Stream, t *field.List) { s.Owner.(*Exchange).onTrailers(t) }

// OnReset ends the exchange: the caller is gone.
func (c *h1Down) OnReset(s *h1.Stream, err error) {
	if x, ok := s.Owner.(*Exchange); ok {
		x.onCancel(err)
	}
}

// OnSent passes credit on to the upstream.
func (c *h1Down) OnSent(s *h1.Stream, n int) { s.Owner.(*Exchange).onSent(n) }

// OnOutput has the connection flushed.
func (c *h1Down) OnOutput(*h1.Conn) { c.conn.Dirty() }

// OnIdle needs no action.
func (c *h1Down) OnIdle(*h1.Conn) {}

// accept starts the pipeline.
func (x *Exchange) accept(head *field.List, end bool) {
	x.req.Swap(head)
	x.touch()
	x.took(end)
	x.run()
}

// took notes whether the request is complete.
func (x *Exchange) took(end bool) {
	x.reqEnded = end
	if end {
		x.wholeAt = max(x.loop.shard.Now(), 1)
		x.timedFrom = x.wholeAt
	}
}

// onData takes request body bytes: on to the upstream when it is there, else into
// the exchange, where the caller's window bounds them.
func (x *Exchange) onData(p []byte, end bool) {
	defer x.contain()
	x.touch()
	if x.extended && !x.tunnel {
		x.beforeTunnel(p, end)
		return
	}
	x.took(end)
	x.received += int64(len(p))
	x.owed += len(p)
	if x.up != nil {
		x.keepRequest(p)
		x.credit(x.up.WriteData(p, end))
		if x.tunnel && end {
			x.leave(downstreamConnectionEnd)
			x.run()
			return
		}
		x.rearm() // the end, or what waits to be sent, makes it the upstream's turn
		return
	}
	if x.isLocal || x.upEnded { // already answered: the rest is not wanted
		x.credit(len(p))
		return
	}
	x.reqBody = append(x.reqBody, p...)
	if x.collecting {
		x.run()
	}
}

func (x *Exchange) onTrailers(t *field.List) {
	defer x.contain()
	x.touch()
	x.reqTrailers.CopyFrom(t)
	stripOurs(&x.reqTrailers)
	if x.site.HTTP.Underscores != snapshot.AllowUnderscores {
		dropUnderscored(&x.reqTrailers)
	}
	x.took(true)
	x.hasTrailers = true
	if x.up != nil {
		x.up.WriteTrailers(&x.reqTrailers)
		x.rearm()
		return
	}
	if x.collecting {
		x.run()
	}
}

func (x *Exchange) onCancel(err error) {
	defer x.contain()
	x.gone = true
	if e, ok := errors.AsType[*h2.StreamError](err); ok {
		x.streamGone = e.Remote && !e.ConnLost
	}
	if x.err == nil {
		x.err = &quadnine.Error{Code: quadnine.Canceled, Origin: quadnine.Downstream, Op: "caller", Key: x.Key, Err: err}
	}
	if x.running {
		return // finish follows when the stage returns
	}
	x.finish()
}

func (x *Exchange) onSent(n int) {
	defer x.contain()
	x.touch()
	x.creditUp(n)
	x.writeRest()
	if x.headSent && (x.isLocal || x.upEnded) && x.down.Buffered() == 0 {
		x.run()
	}
}

var (
	_ upstream.Stream = (*h2.Stream)(nil)
	_ upstream.Stream = (*h1.Stream)(nil)
)
