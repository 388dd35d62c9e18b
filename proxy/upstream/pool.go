package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

// Limits of one shard's connections to an endpoint that flags name. What a
// management server configures has the limits that it says.
const (
	maxH2Conns = 2   // one is enough until the peer's stream limit is reached
	maxH1Conns = 512 // exchanges at a time
)

// The reasons why no stream can be had.
var (
	// ErrOpen: the cluster breaker refuses.
	ErrOpen = errors.New("cluster breaker open")
	// ErrOverflow: the cluster's circuit_breakers.thresholds refuse (503 UO).
	ErrOverflow = errors.New("too many requests wait for a connection")
	// ErrNone: there is nobody to ask (503 UH).
	ErrNone = errors.New("no endpoint accepts connections")
	// ErrNoUpgrade: the endpoint speaks HTTP/2 and offers no extended CONNECT.
	ErrNoUpgrade = errors.New("no upgrade over HTTP/2")
	errClosed    = errors.New("connection closed before it could be used")
	// ErrMoved: the endpoint is no longer one of its cluster's; nothing was tried.
	ErrMoved = errors.New("the endpoint is no longer one of its cluster's")
)

// DialError says that no connection could be had to the endpoint that was chosen,
// nor to those that were tried after it (503 UF).
type DialError struct {
	Address string
	Err     error
}

// Error names the endpoint and what became of the last dial.
func (e *DialError) Error() string { return "dial " + e.Address + ": " + e.Err.Error() }

// Unwrap returns the dial's error.
func (e *DialError) Unwrap() error { return e.Err }

// Dialer opens a transport connection.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Events counts what a pool does; the data plane supplies it. Every function is
// called on the shard's goroutine.
type Events struct {
	Connected  func()
	Secured    func(resumed bool) // with TLS; unlike the others it is called on any goroutine
	NotSecured func()             // and so is this: a handshake failed
	DialFailed func()
	FellBack   func()      // a probe found HTTP/1.1
	Cut        func(error) // a connection ended, for the reason given; may be nil
}

// Pool holds one shard's connections to the endpoints of all clusters.
type Pool struct {
	shard  *shard.Shard
	dial   Dialer // nil: TCP
	events Events
	secure *secure.Store
	lanes  map[*Cluster]*lane
	latest *lane // of lanes, the one that was asked for last: mostly the next one too
	due    []*host
	h2     h2.Config
	h1     h1.Config
	ctx    context.Context // ends every dial
	cancel context.CancelFunc
}

// NewPool returns an empty pool for s; without dial it uses TCP. Close it on the
// shard's goroutine or after the shard has stopped.
func NewPool(s *shard.Shard, dial Dialer, events Events) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		shard: s, dial: dial, events: events, lanes: make(map[*Cluster]*lane),
		h2: h2.DefaultConfig(), h1: h1.DefaultConfig(), ctx: ctx, cancel: cancel,
		secure: secure.NewStore(slog.Default(), secure.Events{}),
	}
	s.BeforeFlush(p.serveDue)
	return p
}

// Close abandons dials that are under way. Connections are the shard's to close.
func (p *Pool) Close() { p.cancel() }

// Open picks an endpoint of c and returns a stream on it. With neither stream
// nor error the request waits: OnUpstream or OnUnavailable follows, unless
// Cancel comes first.
func (p *Pool) Open(c *Cluster, r *Request) (Stream, error) {
	now := p.shard.Now()
	if !c.Available(now) {
		return nil, ErrOpen
	}
	l := p.lane(c)
	l.count(now, r)
	e, err := l.pick(now, r)
	if err != nil {
		l.tidy()
		return nil, err
	}
	r.note(e)
	h := l.host(e, r)
	r.Endpoint, r.host = e, h
	if h.first == nil { // nobody overtakes who waits
		s, err := h.ready(r)
		if err != nil {
			r.release()
			h.tidy()
			return nil, err
		}
		if s != nil {
			return s, nil
		}
	}
	if !take(&h.usage.pending, h.settings().Thresholds[r.Priority].MaxPending) {
		h.usage.pendingOverflow.Add(1)
		r.release()
		h.tidy()
		return nil, ErrOverflow
	}
	h.enqueue(r)
	if err := h.grow(); err != nil {
		h.dequeue(r)
		r.release()
		h.tidy()
		return nil, err
	}
	return nil, nil
}

// Cancel withdraws a waiting request.
func (p *Pool) Cancel(r *Request) {
	if r.waiting {
		r.host.dequeue(r)
		r.release()
	}
}

// Done says that the request's stream is released. Requests that waited for room
// on its connection are served at the end of the wake-up.
func (p *Pool) Done(r *Request) {
	if r.Endpoint == nil {
		return
	}
	h, c := r.host, r.conn
	h.end(r)
	r.release()
	h.serveLater()
	if c != nil {
		c.released()
	}
}

// serveDue gives the room that became free in this wake-up to who waits for it.
func (p *Pool) serveDue() {
	for len(p.due) > 0 {
		h := p.due[len(p.due)-1]
		p.due = p.due[:len(p.due)-1]
		h.due = false
		h.serve()
		h.tidy()
	}
}

// connect dials e as s says, for want to be spoken. The connection is secured
// within the same time.
func (p *Pool) connect(e *Endpoint, s *snapshot.ClusterSettings, want snapshot.Protocol) (link, error) {
	ctx, cancel := context.WithTimeout(p.ctx, connectTimeout(s))
	defer cancel()
	nc, err := p.open(ctx, e, s)
	if err != nil || s.TLS == nil {
		return link{nc: nc}, err
	}
	l, err := p.handshake(ctx, nc, e, s.TLS, want)
	if err != nil {
		if p.events.NotSecured != nil {
			p.events.NotSecured()
		}
		_ = nc.Close() // it is of no use
		return link{}, err
	}
	return l, nil
}

// open opens the transport connection.
func (p *Pool) open(ctx context.Context, e *Endpoint, s *snapshot.ClusterSettings) (net.Conn, error) {
	if p.dial != nil {
		return p.dial(ctx, e.Address)
	}
	var d net.Dialer
	if k := s.KeepAlive; k.On {
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: orKernel(k.Time), Interval: orKernel(k.Interval), Count: k.Probes}
		if k.Probes == 0 {
			d.KeepAliveConfig.Count = -1
		}
	}
	return d.DialContext(ctx, "tcp", e.Address)
}

// orKernel returns d, or what leaves the kernel's value as it is.
func orKernel(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// connectTimeout is how long a connection may take, and again the answer of a
// probe.
func connectTimeout(s *snapshot.ClusterSettings) time.Duration {
	if s.ConnectTimeout <= 0 {
		return 5 * time.Second // connect_timeout's default
	}
	return s.ConnectTimeout
}

// cut tells of a connection's end.
func (p *Pool) cut(err error) {
	if p.events.Cut != nil && err != nil {
		p.events.Cut(err)
	}
}

// h2Config is how the engine of an HTTP/2 connection is set up.
func (p *Pool) h2Config(s *snapshot.ClusterSettings) h2.Config {
	cfg := p.h2
	if s.StreamWindow > 0 {
		cfg.StreamWindow = s.StreamWindow
	}
	if s.ConnWindow > 0 {
		cfg.ConnWindow = s.ConnWindow
	}
	if s.BufferLimit > 0 {
		cfg.OutputLimit = int(max(s.BufferLimit, minBuffer))
	}
	return cfg
}

// h1Config is how the engine of an HTTP/1.1 connection is set up.
func (p *Pool) h1Config(s *snapshot.ClusterSettings) h1.Config {
	cfg := p.h1
	if s.BufferLimit > 0 {
		cfg.OutputLimit = int(max(s.BufferLimit, minBuffer))
		cfg.BodyWindow = cfg.OutputLimit
	}
	return cfg
}

// minBuffer is the least that per_connection_buffer_limit_bytes comes to: a
// frame.
const minBuffer = 16 << 10
