package upstream

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/tlsconn"
	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

// link is a connection as its dial left it.
type link struct {
	nc     net.Conn
	tls    *tlsconn.Conn     // nil: plain text
	speaks snapshot.Protocol // what TLS negotiated; Auto in plain text
}

// UseTLS has connections of clusters that ask for it secured by contexts of s.
// Call it before the first Open.
func (p *Pool) UseTLS(s *secure.Store) { p.secure = s }

// Names of protocols in ALPN (RFC 7301).
const (
	alpnH1 = "http/1.1"
	alpnH2 = "h2"
)

// offers is what a connection on which want is to be spoken negotiates.
func offers(want snapshot.Protocol) []string {
	switch want {
	case snapshot.H1:
		return []string{alpnH1}
	case snapshot.H2C:
		return []string{alpnH2}
	default:
		return []string{alpnH2, alpnH1}
	}
}

// wanted is what is to be spoken on the host's connections; Auto where the
// endpoint chooses anew each time.
func (h *host) wanted() snapshot.Protocol {
	if h.key.protocol != snapshot.Auto {
		return h.key.protocol
	}
	return h.endpoint.forced
}

// handshake secures nc, a connection to e, within ctx. It runs on the dial's
// goroutine.
func (p *Pool) handshake(ctx context.Context, nc net.Conn, e *Endpoint, t *snapshot.TLS, want snapshot.Protocol) (link, error) {
	config, err := p.secure.Client(t).Client(e.Hostname(), offers(want))
	if err != nil {
		return link{}, fmt.Errorf("TLS: %w", err)
	}
	if at, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(at); err != nil {
			return link{}, err
		}
	}
	abandon := context.AfterFunc(p.ctx, func() { _ = nc.Close() }) // which the handshake notices
	defer abandon()
	c := tlsconn.Client(nc, config)
	if err := c.Handshake(); err != nil {
		return link{}, tlsconn.Explain(err, "the endpoint")
	}
	state := c.State()
	l := link{nc: nc, tls: c}
	if l.speaks, err = spoken(want, state.NegotiatedProtocol, config.NextProtos); err != nil {
		return link{}, err
	}
	if p.events.Secured != nil {
		p.events.Secured(state.DidResume)
	}
	return l, nil
}

// spoken returns the protocol of a connection that negotiated name out of offered.
func spoken(want snapshot.Protocol, name string, offered []string) (snapshot.Protocol, error) {
	switch {
	case name == alpnH2 && want != snapshot.H1:
		return snapshot.H2C, nil
	case name == alpnH1 && want != snapshot.H2C:
		return snapshot.H1, nil
	case want == snapshot.H2C && name != "":
		return snapshot.H2C, nil // a name of the configuration's own
	case want == snapshot.H2C:
		return 0, fmt.Errorf("the endpoint does not speak HTTP/2 over TLS: of %s it chose nothing (ALPN)", strings.Join(offered, ", "))
	case want == snapshot.H1 && name == alpnH2:
		return 0, fmt.Errorf("the endpoint chose HTTP/2 over TLS, and HTTP/1.1 is configured (ALPN offered %s)", strings.Join(offered, ", "))
	default:
		return snapshot.H1, nil
	}
}

// attach puts c on its shard with e, below which there is TLS where the connection
// has it.
func (l link) attach(c *shard.Conn, e shard.Engine, o shard.Owner) *tlsconn.Engine {
	if l.tls == nil {
		c.Attach(e, o)
		return nil
	}
	t := tlsconn.NewEngine(l.tls, e)
	c.Attach(t, o)
	if err := t.Feed(c.Shard().Now(), nil); err != nil { // what came with the end of the handshake
		c.Fail(err)
	}
	return t
}
