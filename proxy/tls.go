package proxy

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/proxy/tlsconn"
	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

const (
	// handshakeTime is how long a handshake may take where the listener does not say:
	// Envoy's listener_filters_timeout, within which a ClientHello has to come.
	handshakeTime = 15 * time.Second
	// maxHandshakes is how many handshakes may be under way, of all listeners. Each
	// costs a goroutine and some 11 KB. Past it the oldest gives way: one that has
	// waited longest for its caller is the least likely to become a connection.
	maxHandshakes = 1024
	// lastHandshake is how long those that are under way may take when the process
	// is to end. Who gets through is asked to go elsewhere as all others are.
	lastHandshake = time.Second
)

var errNoChain = errors.New("no filter chain takes this connection")

// handshakes are those under way with callers.
type handshakes struct {
	turns   tlsconn.Turns
	running sync.WaitGroup
	pending atomic.Int64 // not over, or not on their shard yet
	mu      sync.Mutex
	open    list.List // of *greeting, the oldest first; guarded by mu
	hurried bool      // guarded by mu: the process is to end
	closed  bool      // guarded by mu
}

// greeting is a connection on its way to a shard.
type greeting struct {
	server *Server
	socket *socket
	nc     net.Conn
	chain  *chain
	own    string // the first URI of the certificate that is shown
	at     *list.Element
	given  bool // its place was given to another; guarded by handshakes.mu
}

// begin counts h in. Where there are too many it ends the oldest; it reports false
// when none may begin any more.
func (hs *handshakes) begin(h *greeting) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.closed {
		return false
	}
	if hs.open.Len() >= maxHandshakes {
		oldest := hs.open.Front().Value.(*greeting)
		oldest.given = true
		hs.open.Remove(oldest.at)
		_ = oldest.nc.Close() // which its handshake notices
	}
	h.at = hs.open.PushBack(h)
	hs.pending.Add(1)
	hs.running.Go(h.run)
	return true
}

// end reports whether h had to give way to another.
func (hs *handshakes) end(h *greeting) (given bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if !h.given {
		hs.open.Remove(h.at)
	}
	return h.given
}

// within gives h so much time from now on.
func (hs *handshakes) within(h *greeting, d time.Duration) error {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.hurried {
		d = min(d, lastHandshake)
	}
	return tlsconn.Within(h.nc, d)
}

// hurry gives those under way little more time: the process is to end.
func (hs *handshakes) hurry() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.hurried = true
	for e := hs.open.Front(); e != nil; e = e.Next() {
		_ = tlsconn.Within(e.Value.(*greeting).nc, lastHandshake) // else it has the time that it had
	}
}

// close ends all handshakes and waits until they are over.
func (hs *handshakes) close() {
	hs.mu.Lock()
	hs.closed = true
	for e := hs.open.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*greeting).nc.Close() // which it notices
	}
	hs.mu.Unlock()
	hs.running.Wait()
}

// welcome puts a connection that came to k on a shard, once it is known which
// chain takes it.
func (s *Server) welcome(k *socket, nc net.Conn) {
	cs := k.chains.Load()
	if !cs.tls {
		c := cs.base
		if len(cs.all) > 0 {
			h := hello{}
			if cs.byPort {
				h.port = portOf(nc)
			}
			c = cs.choose(&h)
		}
		if c == nil {
			s.turnAway(nc, telemetry.RefusedNoChain)
			return
		}
		s.enter(c.place, nc, nil, nil, "")
		return
	}
	h := &greeting{server: s, socket: k, nc: nc}
	if !s.handshakes.begin(h) {
		s.turnAway(nc, telemetry.HandshakeClosed)
	}
}

// turnAway closes a connection that was let in.
func (s *Server) turnAway(nc net.Conn, why telemetry.CounterID) {
	s.registry.Count(why, 1)
	_ = nc.Close() // nothing was said on it
	s.overload.leave()
}

// enter gives a connection to the shard that has the fewest. head is what was read
// of it; secured is nil for plain text; own is the first URI of our certificate.
func (s *Server) enter(p *place, nc net.Conn, head []byte, secured *tlsconn.Conn, own string) {
	l := s.loops[0]
	for _, o := range s.loops[1:] {
		if o.shard.Load() < l.shard.Load() {
			l = o
		}
	}
	c := newDownConn(l, p, nc)
	c.head = head
	if secured != nil {
		c.secure(secured, own)
	}
	l.shard.Post(&c.arrive)
}

// run finds out what the caller wants and performs its handshake.
func (h *greeting) run() {
	s := h.server
	defer func() {
		s.handshakes.pending.Add(-1)
		s.connClosed(nil) // who drains waits for it
	}()
	head, secured, err := h.perform()
	given := s.handshakes.end(h)
	if err == nil && !given {
		err = h.nc.SetDeadline(time.Time{}) // only now can hurry set none any more
	}
	if err == nil && !given {
		if secured != nil {
			s.registry.Count(handshakeDone(secured.State()), 1)
		}
		s.enter(h.chain.place, h.nc, head, secured, h.own)
		return
	}
	why := telemetry.HandshakeFailed
	switch {
	case given:
		why = telemetry.HandshakeGaveWay
	case errors.Is(err, errNoChain):
		why = telemetry.RefusedNoChain
	case tlsconn.PlainText(err), errors.Is(err, errPlainText):
		why = telemetry.RefusedPlainText
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = telemetry.HandshakeTimedOut
	case errors.Is(err, net.ErrClosed):
		why = telemetry.HandshakeClosed
	}
	s.log.Debug("caller's handshake failed", "remote", h.nc.RemoteAddr().String(), "listener", h.socket.name, "err", err)
	s.turnAway(h.nc, why)
}

var errPlainText = errors.New("plain text on a port that takes TLS only")

func handshakeDone(state tls.ConnectionState) telemetry.CounterID {
	if state.DidResume {
		return telemetry.HandshakeResumed
	}
	return telemetry.HandshakeFull
}

// perform returns what was read of plain text, or a secured connection.
func (h *greeting) perform() (head []byte, secured *tlsconn.Conn, err error) {
	cs := h.socket.chains.Load()
	known := hello{}
	if cs.byPort {
		known.port = portOf(h.nc)
	}
	limit := handshakeTime
	if cs.base != nil && len(cs.all) == 0 {
		limit = cmp.Or(cs.base.handshake, handshakeTime)
	}
	if err := h.server.handshakes.within(h, limit); err != nil {
		return nil, nil, err
	}
	if cs.plain {
		if head, err = tlsconn.Peek(h.nc); err != nil {
			return nil, nil, err
		}
		if !tlsconn.Begins(head) {
			if h.chain = cs.choose(&known); h.chain == nil {
				return nil, nil, errNoChain
			}
			if h.chain.tls != nil {
				return nil, nil, errPlainText
			}
			return head, nil, nil
		}
	}
	config := &tls.Config{GetConfigForClient: func(hi *tls.ClientHelloInfo) (*tls.Config, error) {
		known.tls, known.name, known.offered = true, strings.ToLower(hi.ServerName), hi.SupportedProtos
		c := cs.choose(&known)
		if c == nil || c.tls == nil {
			return nil, errNoChain
		}
		if h.chain = c; c.handshake > 0 {
			if err := h.server.handshakes.within(h, c.handshake); err != nil {
				return nil, err
			}
		}
		config, err := c.tls.Server(known.offered)
		if err == nil {
			h.own = ownName(config, hi)
		}
		return config, err
	}}
	secured = tlsconn.Server(h.nc, head, config, h.server.handshakes.turns)
	if err := secured.Handshake(); err != nil {
		return nil, nil, err
	}
	return nil, secured, nil
}

// secure has c speak TLS.
func (c *downConn) secure(secured *tlsconn.Conn, own string) {
	state := secured.State()
	c.alpn, c.shown = state.NegotiatedProtocol, &shown{peer: state.PeerCertificates, own: own}
	c.tls = tlsconn.NewEngine(secured, &detector{c})
}

// attach puts c on its shard with what has come of it already.
func (c *downConn) attach(now int64) {
	if c.tls == nil {
		d := &detector{c}
		c.conn.Attach(d, c)
		c.feedHead(d.Feed, now)
		return
	}
	c.conn.Attach(c.tls, c)
	if err := c.tls.Feed(now, nil); err != nil { // what came with the end of the handshake
		c.conn.Fail(err)
	}
}

func (c *downConn) feedHead(feed func(int64, []byte) error, now int64) {
	head := c.head
	if c.head = nil; len(head) == 0 {
		return
	}
	if err := feed(now, head); err != nil {
		c.conn.Fail(err)
	}
}

// use makes e the engine that speaks on c.
func (c *downConn) use(e feeder) {
	if c.tls != nil {
		c.tls.SetInner(e)
		return
	}
	c.conn.SetEngine(e)
}

// fail ends c at the next flush.
func (c *downConn) fail(err error) {
	if c.tls != nil {
		c.tls.End()
	}
	c.conn.Fail(err)
}

// scheme is that of requests on c.
func (c *downConn) scheme() string {
	if c.tls != nil {
		return "https"
	}
	return "http"
}

// tlsOf returns what TLS there is in a snapshot.
func tlsOf(snap *snapshot.Snapshot) map[*snapshot.TLS]bool {
	used := make(map[*snapshot.TLS]bool)
	for _, l := range snap.Listeners {
		for face := range l.Faces {
			used[face.TLS] = true
		}
	}
	for _, c := range snap.Clusters {
		used[c.TLS] = true
	}
	return used
}

// Certificates returns the certificates in use.
func (s *Server) Certificates() []secure.Certificate { return s.secure.Certificates() }

// ends samples when certificates end. Of several by one name, the first counts.
func (s *Server) ends(yield func(telemetry.Sample) bool) {
	first := make(map[string]time.Time)
	for _, c := range s.secure.Certificates() {
		if c.Ends.IsZero() {
			continue
		}
		if was, ok := first[c.Label()]; !ok || c.Ends.Before(was) {
			first[c.Label()] = c.Ends
		}
	}
	for label, at := range first {
		if !yield(telemetry.Sample{Labels: []string{label}, Value: float64(at.Unix())}) {
			return
		}
	}
}

// secured counts a handshake with an endpoint.
func (s *Server) secured(resumed bool) {
	id := telemetry.UpstreamSecured
	if resumed {
		id = telemetry.UpstreamResumed
	}
	s.registry.Count(id, 1)
}
