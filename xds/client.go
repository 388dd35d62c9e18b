package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	fetchTimeout = 15 * time.Second // Envoy's initial_fetch_timeout

	// maxMessage is how large a response can be: 50 times a configuration of 1,000
	// clusters and 10,000 routes.
	maxMessage = 64 << 20
)

// ClientOptions are what a client needs to know.
type ClientOptions struct {
	Variant string         // VariantDelta or VariantSotw; delta if empty
	Servers []ServerConfig // by priority: the next is asked when what is needed cannot be had from those before

	Node               *corev3.Node // see Node
	SetNodeOnFirstOnly bool         // leave the node out of all requests of a stream but the first
	Sink               Sink
	Log                *slog.Logger
	Elsewhere          []Kind                 // that are asked for as a whole, and not of these servers: they have another config source
	FetchTimeout       map[Kind]time.Duration // until a resource counts as missing, unless the Sink says; 0: never; absent: 15 s
	MaxMessage         int                    // bytes of a response; 0: 64 MiB
	Secrets            bool                   // the stream is of the secret discovery service, not of the aggregated one

	// Dial opens connections in the place of the network; nil uses the addresses.
	Dial func(ctx context.Context, s ServerConfig) (net.Conn, error)
}

// Client keeps a stream to a management server: it subscribes to what its Sink
// wants, hands over what arrives and answers it. What is in use stays in use
// while no server can be reached.
type Client struct {
	o       ClientOptions
	events  chan event
	resync  chan struct{}
	memory  memory
	servers []server
	reach   int // the last of the servers that are tried
	status  atomic.Pointer[StreamStatus]
	down    time.Time // since when no stream works
	last    error     // why
}

// server is the state of one management server.
type server struct {
	link    *adsLink // nil: none, and the next is tried at retry
	retry   time.Time
	backoff backoff
	tries   int // without a response, in a row
	closing bool
}

// errSuperseded ends a stream to a server that is no longer needed, because one
// before it is back.
var errSuperseded = errors.New("xds: a server of higher priority is back")

// errDeaf ends a stream to a server that sends and does not read.
var errDeaf = fmt.Errorf("it reads nothing: %d requests wait for it", outboxLength)

// NewClient returns a client that does nothing until Run.
func NewClient(o ClientOptions) *Client {
	if o.Variant == "" {
		o.Variant = VariantDelta
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = maxMessage
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, events: make(chan event), resync: make(chan struct{}, 1), servers: make([]server, len(o.Servers))}
	c.status.Store(&StreamStatus{Variant: o.Variant})
	return c
}

// Resubscribe says that what Sink.Wanted returns may have changed. It may be
// called from any goroutine, also from within the Sink, and returns at once.
func (c *Client) Resubscribe() {
	select {
	case c.resync <- struct{}{}:
	default: // one is under way
	}
}

// Run keeps a stream until ctx is over, and returns nil then. Its errors are
// those of the options. It is called once.
func (c *Client) Run(ctx context.Context) error {
	if len(c.o.Servers) == 0 {
		return errors.New("xds: no management server is configured: name one in dynamic_resources.ads_config.grpc_services")
	}
	if c.o.Variant != VariantDelta && c.o.Variant != VariantSotw {
		return fmt.Errorf("xds: variant %q: want %s or %s", c.o.Variant, VariantDelta, VariantSotw)
	}
	c.down = now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.launch(ctx)
		c.publish()
		timer.Reset(c.pause())
		select {
		case <-ctx.Done():
			c.stop()
			c.publish()
			return nil
		case ev := <-c.events:
			c.handle(ev)
		case <-c.resync:
			c.each(func(s *session) { s.sync(now()) })
		case <-timer.C:
			if s := c.current(); s != nil {
				s.tick(now())
			}
		}
		c.flush()
	}
}

// launch starts what is due.
func (c *Client) launch(ctx context.Context) {
	for i := range c.servers[:c.reach+1] {
		s := &c.servers[i]
		if s.link != nil || now().Before(s.retry) {
			continue
		}
		s.closing = false
		linkCtx, cancel := context.WithCancelCause(ctx)
		s.link = &adsLink{server: i, outbox: make(chan proto.Message, outboxLength), cancel: cancel}
		go c.serve(linkCtx, s.link)
	}
}

// each calls f with every session whose stream is open.
func (c *Client) each(f func(*session)) {
	for i := range c.servers {
		if s := &c.servers[i]; s.link != nil && s.link.session != nil && !s.closing {
			f(s.link.session)
		}
	}
}

// current returns the session with the server in use, or nil. Servers before it
// that are connected and silent have a session too; their silence means nothing.
func (c *Client) current() *session {
	if s := &c.servers[c.reach]; s.link != nil && !s.closing {
		return s.link.session
	}
	return nil
}

// pause returns how long there is nothing to do.
func (c *Client) pause() time.Duration {
	at := now().Add(time.Hour)
	for i := range c.servers[:c.reach+1] {
		if s := &c.servers[i]; s.link == nil && s.retry.Before(at) {
			at = s.retry
		}
	}
	if s := c.current(); s != nil {
		if due := s.deadline(); !due.IsZero() && due.Before(at) {
			at = due
		}
	}
	return max(at.Sub(now()), 0)
}

// flush hands the requests of all sessions to their streams.
func (c *Client) flush() {
	for i := range c.servers {
		s := &c.servers[i]
		if s.link == nil || s.link.session == nil {
			continue
		}
		for _, m := range s.link.session.take() {
			if s.closing {
				break
			}
			select {
			case s.link.outbox <- m:
			default:
				s.closing = true
				s.link.cancel(errDeaf)
			}
		}
	}
}

func (c *Client) handle(ev event) {
	s := &c.servers[ev.link.server]
	switch {
	case ev.closed:
		c.closed(s, ev)
	case s.closing:
		// What a stream said that is being given up.
	case ev.opened:
		c.opened(ev.link)
	default:
		c.received(s, ev)
	}
}

func (c *Client) opened(l *adsLink) {
	l.opened = now()
	d := dialect(deltaDialect{})
	if c.o.Variant == VariantSotw {
		d = sotwDialect{}
	}
	l.session = &session{
		dialect: d, server: l.server, node: c.o.Node, nodeOnce: c.o.SetNodeOnFirstOnly,
		elsewhere: c.o.Elsewhere, sink: c.o.Sink, log: c.o.Log.With("server", c.o.Servers[l.server].Name), memory: &c.memory,
		timeout: func(k Kind) time.Duration {
			if d, ok := c.o.FetchTimeout[k]; ok {
				return d
			}
			return fetchTimeout
		},
	}
	c.o.Log.Info("xds: stream opened", "server", c.o.Servers[l.server].Name, "variant", c.o.Variant)
	if l.server == c.reach {
		c.o.Sink.Connected(c.o.Servers[l.server].Name, true, nil)
	}
	l.session.start(now())
}

func (c *Client) received(s *server, ev event) {
	l := ev.link
	if !l.responded {
		l.responded = true
		s.tries = 0
		c.last = nil
		if l.server < c.reach {
			c.prefer(l.server)
		}
	}
	l.session.receive(now(), ev.m)
}

// prefer gives up the servers after i, which answered.
func (c *Client) prefer(i int) {
	for j := i + 1; j <= c.reach; j++ {
		s := &c.servers[j]
		s.retry, s.backoff, s.tries = time.Time{}, backoff{}, 0
		if s.link != nil && !s.closing {
			s.closing = true
			s.link.cancel(errSuperseded)
		}
	}
	c.o.Log.Info("xds: server is back", "server", c.o.Servers[i].Name)
	c.reach = i
	c.o.Sink.Connected(c.o.Servers[i].Name, true, nil)
}

// closed decides what follows the end of a stream.
func (c *Client) closed(s *server, ev event) {
	l, at := ev.link, now()
	l.cancel(nil)
	s.link, s.closing = nil, false
	name := c.o.Servers[l.server].Name
	if errors.Is(ev.err, errSuperseded) {
		return
	}
	err := c.explain(l, ev.err)
	var wait time.Duration
	if l.responded && !broken(ev.err) {
		wait = s.backoff.after(at.Sub(l.opened))
		c.o.Log.Info("xds: stream ended", "server", name, "reason", err, "again_in", wait)
		if l.server == c.reach {
			c.down = at
			c.o.Sink.Connected(name, false, nil)
		}
	} else {
		wait = s.backoff.next()
		s.tries++
		c.o.Log.Warn("xds: no configuration from server", "server", name, "error", err, "again_in", wait)
		if l.server == c.reach {
			c.last = err
			c.o.Sink.Connected(name, false, err)
			if c.reach+1 < len(c.servers) && c.lacking() {
				c.reach++
				c.o.Log.Warn("xds: falling back", "server", c.o.Servers[c.reach].Name)
			}
		}
	}
	s.retry = at.Add(wait)
}

// lacking reports whether something is needed that was never received: only then
// is another server asked (gRFC A71).
func (c *Client) lacking() bool {
	for _, k := range Kinds() {
		if slices.Contains(c.o.Elsewhere, k) {
			continue
		}
		have := c.o.Sink.Versions(k, nil)
		if k.Wildcard() {
			if len(have) == 0 && !c.memory.answered[k] {
				return true
			}
			continue
		}
		for _, name := range c.o.Sink.Wanted(k) {
			if _, ok := have[name]; !ok {
				return true
			}
		}
	}
	return false
}

// stop ends all streams and waits for them.
func (c *Client) stop() {
	for i := range c.servers {
		s := &c.servers[i]
		for s.link != nil {
			s.link.cancel(context.Canceled)
			if ev := <-c.events; ev.closed {
				c.servers[ev.link.server].link = nil
			}
		}
	}
}

// explain says what an error of a stream means and what to do about it.
func (c *Client) explain(l *adsLink, err error) error {
	if err == nil {
		return nil
	}
	server := c.o.Servers[l.server]
	name := server.Name
	s, ok := status.FromError(err)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("xds: server %s ended the stream", name)
	}
	if !ok {
		return fmt.Errorf("xds: server %s: %w", name, err)
	}
	hint := ""
	switch {
	case tooLarge(s):
		return fmt.Errorf("xds: server %s: a response is larger than the limit of %d bytes and was refused (%s): the last configuration stays in use", name, c.o.MaxMessage, s.Message())
	case garbled(s):
		hint = ": what it sent is no discovery response; the last configuration stays in use"
	case s.Code() == codes.Unimplemented && c.o.Variant == VariantDelta:
		hint = ": it may not speak the incremental variant: set api_type to GRPC"
	case s.Code() == codes.Unimplemented:
		hint = ": it does not serve aggregated discovery (ADS): is it a management server?"
	case s.Code() == codes.InvalidArgument:
		hint = ": it does not like the node: check node.id, node.cluster and node.metadata"
	case s.Code() == codes.Unavailable && !l.responded && server.Credentials != nil && server.Credentials.Info().SecurityProtocol == "tls" && hungUp(s.Message()):
		hint = ": it hung up after the TLS handshake: check the client certificate, which it may not accept"
	case s.Code() == codes.Unauthenticated, s.Code() == codes.PermissionDenied:
		hint = ": check the certificate of the stream's cluster and initial_metadata"
	}
	return fmt.Errorf("xds: server %s: %s: %s%s", name, s.Code(), s.Message(), hint)
}

func tooLarge(s *status.Status) bool {
	return s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "received message larger than")
}

// hungUp reports whether a peer ended a connection. In TLS 1.3 a client's handshake
// is over before the server looked at its certificate, and whether the alert or
// the end of the connection is noticed first is chance.
func hungUp(message string) bool {
	for _, sign := range []string{"remote error: tls", "broken pipe", "connection reset", "EOF"} {
		if strings.Contains(message, sign) {
			return true
		}
	}
	return false
}

func garbled(s *status.Status) bool {
	return s.Code() == codes.Internal && strings.Contains(s.Message(), "unmarshal")
}

// now is the clock. It is read when something happens on a stream, never for a
// request.
var now = time.Now //nolint:forbidigo // streams of configuration are not the hot path
