package upstream

import (
	"slices"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// host is the pool's side of one endpoint: its connections, and who waits for
// one.
type host struct {
	lane     *lane
	pool     *Pool
	cluster  *Cluster
	endpoint *Endpoint
	key      hostKey
	usage    *usage
	h2       []*h2Conn
	idle     []*h1Conn // most recently used last
	leaving  int       // HTTP/2 connections that are out of h2 and not closed
	h1Conns  int
	dialing  int
	draining bool // connections close once nothing runs on them

	first, last *Request
	waiters     int
	due         bool // on the pool's list of hosts with room for who waits
}

func (h *host) settings() *snapshot.ClusterSettings { return h.cluster.set.Load().settings }

// protocol returns what is spoken on the host's connections; Auto while that is
// unknown.
func (h *host) protocol() snapshot.Protocol {
	if h.key.protocol != snapshot.Auto {
		return h.key.protocol
	}
	return h.endpoint.Protocol()
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

// dequeue takes r out of the queue and gives its place back.
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
	h.usage.pending.Add(-1)
}

// begin takes a place for a stream, and end gives it back.
func (h *host) begin(r *Request) bool {
	if !take(&h.usage.active, h.settings().Thresholds[r.Priority].MaxRequests) {
		h.usage.activeOverflow.Add(1)
		return false
	}
	h.endpoint.active.Add(1)
	return true
}

func (h *host) end(*Request) {
	h.endpoint.active.Add(-1)
	h.usage.active.Add(-1)
}

// ready returns a stream on an open connection, or nothing when there is none
// that has room. The error is ErrOverflow: there is room, but not for one more
// request on the cluster.
func (h *host) ready(r *Request) (Stream, error) {
	for _, c := range h.h2 {
		if !c.hasRoom() {
			if h.key.tunnels && c.engine.SettingsReceived() && !c.engine.TakesExtendedConnect() {
				return nil, ErrNoUpgrade
			}
			continue
		}
		if !h.begin(r) {
			return nil, ErrOverflow
		}
		if s := c.open(r); s != nil {
			h.endpoint.requests.Add(1)
			return s, nil
		}
		h.end(r)
	}
	for len(h.idle) > 0 {
		if !h.begin(r) {
			return nil, ErrOverflow
		}
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if s := c.open(r); s != nil {
			h.endpoint.requests.Add(1)
			return s, nil
		}
		h.end(r)
	}
	return nil, nil
}

// grow dials unless enough connections are open or on their way.
func (h *host) grow() error {
	s := h.settings()
	isH1 := h.protocol() == snapshot.H1
	if s.Balance.Policy == snapshot.LeastOfTwo {
		limit := maxH2Conns
		if isH1 {
			limit = maxH1Conns
		}
		if len(h.h2)+h.h1Conns+h.dialing >= limit {
			return nil // a stream or a connection will become free
		}
	}
	switch {
	case isH1:
		if h.dialing >= h.waiters {
			return nil // one is on its way for each
		}
	case slices.ContainsFunc(h.h2, func(c *h2Conn) bool { return c.probing || h.key.tunnels && !c.engine.SettingsReceived() }):
		return nil
	case h.dialing > 0 && (s.MaxStreams == 0 || h.dialing*int(s.MaxStreams) >= h.waiters || h.protocol() == snapshot.Auto):
		return nil // the connection on its way carries many
	}
	return h.startDial(s)
}

// startDial dials within the cluster's max_connections. Who has no connection at
// all gets one in any case: requests that wait at a host would wait for ever for
// what other hosts hold.
func (h *host) startDial(s *snapshot.ClusterSettings) error {
	if !take(&h.usage.conns, s.Thresholds[h.key.priority].MaxConnections) {
		h.usage.connOverflow.Add(1)
		if len(h.h2)+h.leaving+h.h1Conns+h.dialing > 0 {
			return nil
		}
		h.usage.conns.Add(1)
	}
	if !h.cluster.admit(h.pool.shard.Now()) {
		h.usage.conns.Add(-1)
		return ErrOpen
	}
	h.dialing++
	d := &dialing{host: h, settings: s, want: h.wanted()}
	d.done.To = d
	go d.run()
	return nil
}

// dialing is a dial under way on a goroutine of its own.
type dialing struct {
	host     *host
	settings *snapshot.ClusterSettings
	want     snapshot.Protocol
	link     link
	err      error
	done     shard.Mail
}

func (d *dialing) run() {
	d.link, d.err = d.host.pool.connect(d.host.endpoint, d.settings, d.want)
	d.host.pool.shard.Post(&d.done)
}

// Receive takes the dial's result on the shard.
func (d *dialing) Receive(*shard.Mail) {
	h := d.host
	h.dialing--
	if d.err != nil {
		h.usage.conns.Add(-1)
		h.dialFailed(d.err)
		h.tidy()
		return
	}
	h.cluster.dialed()
	h.endpoint.dialed()
	h.pool.events.Connected()
	h.endpoint.conns.Add(1)
	protocol := h.protocol()
	if d.link.tls != nil {
		protocol = d.link.speaks
		if d.want == snapshot.Auto {
			h.endpoint.learn(protocol)
		}
	}
	if protocol == snapshot.H1 {
		newH1Conn(h, d.link, d.settings)
	} else {
		newH2Conn(h, d.link, d.settings)
	}
}

func (h *host) dialFailed(err error) {
	h.endpoint.dialFailed(h.pool.shard.Now(), err)
	h.cluster.dialFailed()
	h.pool.events.DialFailed()
	if h.alone() {
		h.refuse(&DialError{h.endpoint.Address, err})
	}
}

// alone reports whether there is no connection, nor one on its way.
func (h *host) alone() bool { return h.dialing == 0 && len(h.h2) == 0 && h.h1Conns == 0 }

// refuse fails every waiting request.
func (h *host) refuse(err error) {
	for r := h.first; r != nil; r = h.first {
		h.refuseOne(r, err)
	}
}

func (h *host) refuseOne(r *Request, err error) {
	h.dequeue(r)
	r.release()
	r.why = err
	r.Receiver.OnUnavailable(err)
}

// serveLater has the requests that wait served at the end of the wake-up.
func (h *host) serveLater() {
	if h.first != nil && !h.due {
		h.due = true
		h.pool.due = append(h.pool.due, h)
	}
}

// serve gives streams to waiting requests while there are any.
func (h *host) serve() {
	for h.first != nil {
		r := h.first
		s, err := h.ready(r)
		if err != nil {
			h.refuseOne(r, err)
			continue
		}
		if s == nil {
			break
		}
		h.dequeue(r)
		r.Receiver.OnUpstream(s)
	}
	for h.first != nil {
		before := h.dialing
		if err := h.grow(); err != nil && h.alone() {
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
	h.usage.conns.Add(-1)
	h.serve()
	h.tidy()
}

// drain has the connections close once nothing runs on them. Where the endpoint
// is gone, who waits for one of them goes to another.
func (h *host) drain(gone bool) {
	h.draining = true
	for r := h.first; gone && r != nil; r = h.first {
		h.dequeue(r)
		r.release()
		r.forget()
		r.Receiver.OnUnavailable(ErrMoved)
	}
	for _, c := range slices.Clone(h.h2) {
		c.rest()
	}
	for _, c := range slices.Clone(h.idle) {
		c.retire()
	}
	h.tidy()
}

// tidy forgets a drained host without connections.
func (h *host) tidy() {
	if h.draining && h.first == nil && h.alone() && h.leaving == 0 && h.lane.hosts[h.key] == h {
		delete(h.lane.hosts, h.key)
		h.lane.latest = nil
		h.lane.tidy()
	}
}
