package proxy

import (
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
)

// h1Config is what the listener says of HTTP/1.1 connections. It holds for the
// connection's life.
func (c *downConn) h1Config() h1.Config {
	cfg, l := c.loop.server.h1, c.socket.site.Load()
	cfg.PassExpect = l.HTTP.Proxy100
	if n := l.HTTP.MaxHeadersKB; n > 0 {
		cfg.MaxHeaderBytes = int(n) << 10
	}
	if n := l.HTTP.MaxHeaders; n > 0 {
		cfg.MaxHeaderFields = int(n)
	}
	if n := l.TCP.BufferLimit; n > 0 {
		cfg.OutputLimit = int(min(n, maxBuffer))
	}
	return cfg
}

// h2Config is what it says of HTTP/2 connections.
func (c *downConn) h2Config() h2.Config {
	cfg, l := c.loop.server.h2, c.socket.site.Load()
	if n := l.HTTP.MaxHeadersKB; n > 0 {
		cfg.MaxHeaderBytes = n << 10
	}
	if n := l.HTTP.MaxHeaders; n > 0 {
		cfg.MaxHeaderFields = int(n)
	}
	if n := l.HTTP.MaxStreams; n > 0 {
		cfg.MaxConcurrentStreams = n
	}
	if n := l.HTTP.StreamWindow; n > 0 {
		cfg.StreamWindow = n
	}
	if n := l.HTTP.ConnWindow; n > 0 {
		cfg.ConnWindow = n
	}
	if n := l.TCP.BufferLimit; n > 0 {
		cfg.OutputLimit = int(min(n, maxBuffer))
	}
	return cfg
}

// maxBuffer is the most that a connection's output may hold, whatever is
// configured.
const maxBuffer = 16 << 20

// watchHead has a head that has begun come within the listener's
// request_headers_timeout.
func (c *downConn) watchHead(now int64) {
	d := c.socket.site.Load().HTTP.HeadersTimeout
	if d <= 0 {
		return
	}
	e, ok := c.engine.(*h1.Conn)
	switch {
	case !ok || !e.HeadPending():
		c.loop.shard.Stop(&c.heads)
	case !c.heads.Armed():
		c.loop.shard.Arm(&c.heads, now+int64(d))
	}
}

// headClock is a connection as that timer sees it.
type headClock downConn

// Expire refuses a request whose head did not come in time.
func (h *headClock) Expire(*shard.Timer, int64) {
	c := (*downConn)(h)
	if e, ok := c.engine.(*h1.Conn); ok && e.HeadPending() {
		e.Refuse(408, "request header timeout")
		c.conn.Dirty()
	}
}
