package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// Limits of one shard's pool, per endpoint.
const (
	connectTimeout = time.Second      // to a TCP connection, and again to the answer of a probe
	maxH2Conns     = 2                // one is enough until the peer's stream limit is reached
	maxH1Conns     = 512              // exchanges at a time
	maxWaiting     = 1024             // requests waiting for a connection
	idleFor        = 60 * time.Second // an HTTP/1.1 connection without an exchange
)

// The reasons why no stream can be had.
var (
	ErrOpen     = errors.New("cluster breaker open")
	ErrOverflow = errors.New("too many requests wait for a connection")
	ErrNone     = errors.New("no endpoint accepts connections")
	errClosed   = errors.New("connection closed before it could be used")
)

// Dialer opens a transport connection.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Events counts what a pool does; the data plane supplies it. Every function is
// called on the shard's goroutine.
type Events struct {
	Connected  func()
	DialFailed func()
	FellBack   func() // a probe found HTTP/1.1
}

// Pool holds one shard's connections to the endpoints of all clusters.
type Pool struct {
	shard  *shard.Shard
	dial   Dialer
	events Events
	hosts  map[*Endpoint]*host
	due    []*host
	h2     h2.Config
	h1     h1.Config
	ctx    context.Context // ends every dial
	cancel context.CancelFunc
}

// NewPool returns an empty pool for s. Close it on the shard's goroutine or
// after the shard has stopped.
func NewPool(s *shard.Shard, dial Dialer, events Events) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		shard: s, dial: dial, events: events, hosts: make(map[*Endpoint]*host),
		h2: h2.DefaultConfig(), h1: h1.DefaultConfig(), ctx: ctx, cancel: cancel,
	}
	s.BeforeFlush(p.serveDue)
	return p
}

// Close abandons dials that are under way. Connections are the shard's to close.
func (p *Pool) Close() { p.cancel() }

// Request is an exchange's wish for a stream. It is part of the exchange; reset
// it by assignment.
type Request struct {
	Receiver Receiver
	Endpoint *Endpoint // set while a stream is held or awaited
	Tried    uint64    // endpoints of the cluster already tried, a bit each

	host       *host
	prev, next *Request
	waiting    bool
}

// Open picks an endpoint of c and returns a stream on it. With neither stream
// nor error the request waits: OnUpstream or OnUnavailable follows, unless
// Cancel comes first.
func (p *Pool) Open(c *Cluster, r *Request) (Stream, error) {
	now := p.shard.Now()
	if !c.Available(now) {
		return nil, ErrOpen
	}
	i := c.pick(now, r.Tried)
	if i < 0 {
		return nil, c.down()
	}
	r.Tried |= 1 << i
	ep := c.Endpoints[i]
	h := p.hosts[ep]
	if h == nil {
		h = &host{pool: p, cluster: c, endpoint: ep}
		p.hosts[ep] = h
	}
	r.Endpoint, r.host = ep, h
	if h.first == nil { // nobody overtakes who waits
		if s := h.ready(r); s != nil {
			ep.begin()
			return s, nil
		}
	}
	if h.waiters >= maxWaiting {
		r.Endpoint = nil
		return nil, ErrOverflow
	}
	h.enqueue(r)
	if err := h.grow(); err != nil {
		h.dequeue(r)
		r.Endpoint = nil
		return nil, err
	}
	return nil, nil
}

// Cancel withdraws a waiting request.
func (p *Pool) Cancel(r *Request) {
	if r.waiting {
		r.host.dequeue(r)
		r.Endpoint = nil
	}
}

// Done says that the request's stream is released. Requests that waited for room
// on its connection are served at the end of the wake-up.
func (p *Pool) Done(r *Request) {
	if r.Endpoint == nil {
		return
	}
	r.Endpoint.active.Add(-1)
	r.Endpoint = nil
	r.host.serveLater()
}

// serveLater has the requests that wait served at the end of the wake-up.
func (h *host) serveLater() {
	if h.first != nil && !h.due {
		h.due = true
		h.pool.due = append(h.pool.due, h)
	}
}

// serveDue gives the room that became free in this wake-up to who waits for it.
func (p *Pool) serveDue() {
	for len(p.due) > 0 {
		h := p.due[len(p.due)-1]
		p.due = p.due[:len(p.due)-1]
		h.due = false
		h.serve()
	}
}

// host is the pool's side of one endpoint.
type host struct {
	pool     *Pool
	cluster  *Cluster
	endpoint *Endpoint
	h2       []*h2Conn
	idle     []*h1Conn // most recently used last
	h1Conns  int
	dialing  int

	first, last *Request
	waiters     int
	due         bool // on the pool's list of hosts with room for who waits
}

func (h *host) enqueue(r *Request) {
	r.waiting, r.prev, r.next = true, h.last, nil
	if h.last != nil {
		h.last.next = r
	} else {
		h.first = r
	}
	h.last = r
	h.waiters++
}

func (h *host) dequeue(r *Request) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		h.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		h.last = r.prev
	}
	r.waiting, r.prev, r.next = false, nil, nil
	h.waiters--
}

// ready returns a stream on an open connection, or nil.
func (h *host) ready(r *Request) Stream {
	for _, c := range h.h2 {
		if s := c.open(r); s != nil {
			return s
		}
	}
	for len(h.idle) > 0 {
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if s := c.open(r); s != nil {
			return s
		}
	}
	return nil
}

// grow dials unless enough connections are open or on their way.
func (h *host) grow() error {
	limit := maxH2Conns
	if h.endpoint.Protocol() == snapshot.H1 {
		limit = maxH1Conns
	}
	if open := len(h.h2) + h.h1Conns; open+h.dialing >= limit {
		return nil // a stream or a connection will become free
	}
	if h.endpoint.Protocol() == snapshot.H1 {
		if h.dialing >= h.waiters {
			return nil // one is on its way for each
		}
	} else if h.dialing > 0 || slices.ContainsFunc(h.h2, func(c *h2Conn) bool { return c.probing }) {
		return nil // the connection on its way carries many
	}
	return h.startDial()
}

func (h *host) startDial() error {
	if !h.cluster.admit(h.pool.shard.Now()) {
		return ErrOpen
	}
	h.dialing++
	d := &dialing{host: h}
	d.done.To = d
	go d.run(h.pool.ctx)
	return nil
}

// dialing is a dial under way on a goroutine of its own.
type dialing struct {
	host *host
	conn net.Conn
	err  error
	done shard.Mail
}

func (d *dialing) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	d.conn, d.err = d.host.pool.dial(ctx, d.host.endpoint.Address)
	d.host.pool.shard.Post(&d.done)
}

// Receive takes the dial's result on the shard.
func (d *dialing) Receive(*shard.Mail) {
	h := d.host
	h.dialing--
	if d.err != nil {
		h.dialFailed(d.err)
		return
	}
	h.cluster.dialed()
	h.endpoint.dialed()
	h.pool.events.Connected()
	h.endpoint.conns.Add(1)
	if h.endpoint.Protocol() == snapshot.H1 {
		newH1Conn(h, d.conn)
	} else {
		newH2Conn(h, d.conn)
	}
}

func (h *host) dialFailed(err error) {
	h.cluster.dialFailed()
	h.endpoint.dialFailed(h.pool.shard.Now(), err)
	h.pool.events.DialFailed()
	if h.dialing == 0 && len(h.h2) == 0 && h.h1Conns == 0 {
		h.refuse(fmt.Errorf("dial %s: %w", h.endpoint.Address, err))
	}
}

// refuse fails every waiting request.
func (h *host) refuse(err error) {
	for r := h.first; r != nil; r = h.first {
		h.dequeue(r)
		r.Endpoint = nil
		r.Receiver.OnUnavailable(err)
	}
}

// serve gives streams to waiting requests while there are any.
func (h *host) serve() {
	for h.first != nil {
		r := h.first
		s := h.ready(r)
		if s == nil {
			break
		}
		h.dequeue(r)
		h.endpoint.begin()
		r.Receiver.OnUpstream(s)
	}
	for h.first != nil {
		before := h.dialing
		if err := h.grow(); err != nil && h.dialing == 0 && len(h.h2) == 0 && h.h1Conns == 0 {
			h.refuse(err)
		}
		if h.dialing == before {
			break
		}
	}
}

// lost is called when a connection is gone.
func (h *host) lost() {
	h.endpoint.conns.Add(-1)
	h.serve()
}
