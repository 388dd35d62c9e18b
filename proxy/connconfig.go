package proxy

import (
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
)

// h1Config is what the listener says of HTTP/1.1 connections. It holds for the
// connection's life.
func (c *downConn) h1Config() h1.Config {
	cfg, l := c.loop.server.h1, c.place.site.Load()
	cfg.PassExpect, cfg.Scheme = l.HTTP.Proxy100, c.scheme()
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
	cfg, l := c.loop.server.h2, c.place.site.Load()
	if n := l.HTTP.MaxHeadersKB; n > 0 {
		cfg.MaxHeaderBytes = n << 10
	}
	if n := l.HTTP.MaxHeaders; n > 0 {
		cfg.MaxHeaderFields = int(n)
	}
	if n := l.HTTP.MaxStreams; n > 0 {
		cfg.MaxConcurrentStreams = n
	}
	cfg.ExtendedConnect = l.HTTP.AllowConnect
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
