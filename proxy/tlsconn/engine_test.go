package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestBytesPassWhateverTheirPieces: the record layer sees its input in any pieces,
// down to single bytes, in both roles.
func TestBytesPassWhateverTheirPieces(t *testing.T) {
	for name, version := range versions {
		for _, step := range []int{1, 7, 1000, 0} {
			t.Run(name+"/"+strconv.Itoa(step), func(t *testing.T) {
				server, client := configs(t, version)
				p := newPair(t, server, client)
				for _, d := range []struct{ from, to side }{{p.client, p.server}, {p.server, p.client}, {p.client, p.server}} {
					want := make([]byte, 100_000) // more than a record, and than a read
					for i := range want {
						want[i] = byte(rand.Uint32())
					}
					d.from.toy.out = append(d.from.toy.out, want...)
					d.to.toy.in = nil
					if err := p.carry(d.from, d.to, step); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(d.to.toy.in, want) {
						t.Fatalf("%d bytes came, of %d, or others", len(d.to.toy.in), len(want))
					}
				}
			})
		}
	}
}

// TestCloseNotify: who ends says so, and who is told knows that nothing is missing.
func TestCloseNotify(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(t, version)
			p := newPair(t, server, client)
			p.server.toy.out = []byte("bye")
			p.server.toy.closing = true
			if err := p.carry(p.server, p.client, 1); !errors.Is(err, io.EOF) {
				t.Fatalf("the client's Feed: %v, want EOF", err)
			}
			c := p.client.toy
			if string(c.in) != "bye" || c.ended != 1 || c.cut {
				t.Errorf("the client got %q, %d ends, cut %v; want bye and one end that was meant", c.in, c.ended, c.cut)
			}
			if !p.client.Closing() {
				_ = p.client.TakeOutput(nil)
			}
			p.client.FeedEOF() // the transport's end follows
			if c.ended != 1 || c.cut {
				t.Errorf("the end was told %d times, cut %v; want once", c.ended, c.cut)
			}
			// The client's own close_notify ends the server's input.
			if err := feed(p.server, p.client.TakeOutput(nil), 0); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("the server's Feed: %v, want EOF", err)
			}
		})
	}
}

// TestAnEndWithoutCloseNotifyIsACut.
func TestAnEndWithoutCloseNotifyIsACut(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	p := newPair(t, server, client)
	p.server.toy.out = []byte("half of it")
	if err := p.carry(p.server, p.client, 0); err != nil {
		t.Fatal(err)
	}
	p.client.FeedEOF()
	if c := p.client.toy; !c.cut || c.ended != 1 {
		t.Errorf("cut %v, ended %d times; want an end that was not meant, once", c.cut, c.ended)
	}
}

// TestABrokenMessageIsNotEndedCleanly: what the engine aborts gets no close_notify,
// which would tell the peer that nothing is missing.
func TestABrokenMessageIsNotEndedCleanly(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	p := newPair(t, server, client)
	p.server.toy.out = []byte("half")
	p.server.toy.closing, p.server.toy.broken = true, true
	if err := p.carry(p.server, p.client, 0); err != nil {
		t.Fatalf("the client's Feed: %v, want nothing but data", err)
	}
	if !p.server.Aborted() || !p.server.Closing() {
		t.Errorf("aborted %v, closing %v; want both", p.server.Aborted(), p.server.Closing())
	}
}

// TestWhatTheInnerEngineRefuses is told to the peer before the connection ends.
func TestWhatTheInnerEngineRefuses(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	p := newPair(t, server, client)
	refusal := errors.New("refused")
	p.server.toy.refuse = refusal
	p.client.toy.out = []byte("bad")
	if err := p.carry(p.client, p.server, 0); !errors.Is(err, refusal) {
		t.Fatalf("Feed: %v, want the inner engine's error", err)
	}
	p.server.toy.out = []byte("why")
	if err := p.carry(p.server, p.client, 0); !errors.Is(err, io.EOF) || string(p.client.toy.in) != "why" {
		t.Errorf("the client got %q and %v, want why and an end", p.client.toy.in, err)
	}
}

// TestAnAlertEndsTheConnection in both directions.
func TestAnAlertEndsTheConnection(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(t, version)
			p := newPair(t, server, client)
			p.client.toy.out = []byte("hello")
			wire := p.client.TakeOutput(nil)
			wire[len(wire)-1] ^= 1 // no longer what was sealed
			broken := feed(p.server, wire, 0)
			if e, ok := errors.AsType[*Error](broken); !ok || e.Err == nil {
				t.Fatalf("the server's Feed: %v, want an error of the record layer", broken)
			}
			if len(p.server.toy.in) > 0 || !p.server.Closing() {
				t.Errorf("the engine got %q, closing %v", p.server.toy.in, p.server.Closing())
			}
			p.server.toy.out = []byte("never sent")
			err := p.carry(p.server, p.client, 0)
			if e, ok := errors.AsType[*Error](err); !ok || len(p.client.toy.in) > 0 {
				t.Errorf("the client got %q and %v, want the alert alone", p.client.toy.in, err)
			} else if alert, ok := errors.AsType[tls.AlertError](e); ok && alert != 20 {
				t.Errorf("alert %d, want bad_record_mac", alert)
			}
			p.server.FeedEOF()
			if !p.server.toy.cut {
				t.Error("the inner engine was told of a clean end")
			}
		})
	}
}

// TestTheHandshakesLastBytes: what the peer sends with them waits until the engine
// is fed, also with nothing.
func TestTheHandshakesLastBytes(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	p := newPair(t, server, client)
	p.client.toy.out = []byte("early bird")
	p.server.conn.t.head = p.client.TakeOutput(nil) // as if the handshake had read it
	if err := p.server.Feed(0, nil); err != nil {
		t.Fatal(err)
	}
	if got := string(p.server.toy.in); got != "early bird" {
		t.Errorf("got %q", got)
	}
}

// TestRecordsAreGathered: a wake-up's records are one feed.
func TestRecordsAreGathered(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	p := newPair(t, server, client)
	var wire []byte
	for range 100 {
		p.client.toy.out = append(p.client.toy.out, "a frame"...)
		wire = append(wire, p.client.TakeOutput(nil)...)
	}
	if err := feed(p.server, wire, 0); err != nil {
		t.Fatal(err)
	}
	if p.server.toy.feeds != 1 || len(p.server.toy.in) != 700 {
		t.Errorf("%d bytes in %d feeds, want 700 in one", len(p.server.toy.in), p.server.toy.feeds)
	}
}

// TestAllocations: a request and its reply cost what crypto/tls allocates to read a
// record: a 24-byte reader for its header and one for the rest. What is encrypted
// costs nothing.
func TestAllocations(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(t, version)
			server.SessionTicketsDisabled = true
			p := newPair(t, server, client)
			p.server.toy.echo, p.client.toy.echo = true, true
			p.client.toy.out = append(p.client.toy.out, make([]byte, 200)...)
			var up, down []byte
			round := func() {
				up = p.client.TakeOutput(up)
				if err := p.server.Feed(0, up); err != nil {
					t.Fatal(err)
				}
				down = p.server.TakeOutput(down)
				if err := p.client.Feed(0, down); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				round()
			}
			if n := testing.AllocsPerRun(1000, round); n > 4 && !raced {
				t.Errorf("%v allocations for two records written and two read, want 4 at most", n)
			}
		})
	}
}
