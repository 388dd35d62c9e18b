package tlsconn

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/proxy/shard"
)

// toy is an inner engine that keeps what it is fed, or answers with it.
type toy struct {
	echo    bool
	closing bool
	broken  bool
	refuse  error

	in    []byte
	out   []byte
	feeds int
	ended int
	cut   bool
}

func (e *toy) Feed(_ int64, p []byte) error {
	e.feeds++
	if e.echo {
		e.out = append(e.out, p...)
	} else {
		e.in = append(e.in, p...)
	}
	return e.refuse
}

func (e *toy) TakeOutput(spare []byte) []byte {
	out := e.out
	e.out = spare[:0]
	return out
}

func (e *toy) FeedEOF()      { e.ended++ }
func (e *toy) Cut()          { e.cut = true }
func (e *toy) Backlog(int)   {}
func (e *toy) Reading() bool { return true }
func (e *toy) Closing() bool { return e.closing }
func (e *toy) Aborted() bool { return e.broken }

var _ shard.Engine = (*toy)(nil)

// side is one end of a connection.
type side struct {
	*Engine
	toy *toy
}

// pair are both ends, with the bytes that one says to the other.
type pair struct {
	t              testing.TB
	server, client side
}

// newPair returns two ends whose handshake is over.
func newPair(t testing.TB, server, client *tls.Config) *pair {
	t.Helper()
	near, far := net.Pipe()
	s, c := Server(near, nil, server, nil), Client(far, client)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t}
	for to, conn := range map[*side]*Conn{&p.server: s, &p.client: c} {
		to.toy = new(toy)
		to.Engine = NewEngine(conn, to.toy)
	}
	return p
}

// configs are a server's and its client's.
func configs(t testing.TB, version uint16) (server, client *tls.Config) {
	t.Helper()
	ca := testkit.NewCA(t, "test")
	server = &tls.Config{
		Certificates: []tls.Certificate{ca.Issue("server.test").TLS(t)}, MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true,
	}
	client = &tls.Config{RootCAs: ca.Pool(), ServerName: "server.test", MinVersion: version, DynamicRecordSizingDisabled: true}
	return server, client
}

// carry brings what from says to to, in pieces of step bytes; 0: in one.
func (p *pair) carry(from, to side, step int) error {
	return feed(to, from.TakeOutput(nil), step)
}

func feed(to side, wire []byte, step int) error {
	if step == 0 {
		step = max(len(wire), 1)
	}
	for len(wire) > 0 {
		n := min(step, len(wire))
		piece := append([]byte(nil), wire[:n]...) // valid during the call only
		if err := to.Feed(0, piece); err != nil {
			return err
		}
		clear(piece)
		wire = wire[n:]
	}
	return nil
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}
