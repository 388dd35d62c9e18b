package tlsconn

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
)

// traffic seals and opens the records of one direction of a TLS 1.3 connection
// (RFC 8446 section 5.2), so that a test can send what crypto/tls never sends by
// itself.
type traffic struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// expand is HKDF-Expand-Label of section 7.1.
func expand(t *testing.T, secret []byte, label string, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len(label))), label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newTraffic(t *testing.T, secret []byte) *traffic {
	t.Helper()
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &traffic{t: t, secret: secret, aead: aead, iv: expand(t, secret, "iv", 12)}
}

// next is the traffic after a key update (section 7.2).
func (d *traffic) next() *traffic { return newTraffic(d.t, expand(d.t, d.secret, "traffic upd", 32)) }

func (d *traffic) nonce() []byte {
	n := bytes.Clone(d.iv)
	for i := range 8 {
		n[4+i] ^= byte(d.seq >> (56 - 8*i))
	}
	d.seq++
	return n
}

func (d *traffic) seal(kind byte, text string) []byte {
	inner := append([]byte(text), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+d.aead.Overhead()))
	return d.aead.Seal(head, d.nonce(), inner, head)
}

// open returns the first record of wire.
func (d *traffic) open(wire []byte) (kind byte, text string, rest []byte) {
	d.t.Helper()
	n := 5 + int(binary.BigEndian.Uint16(wire[3:]))
	inner, err := d.aead.Open(nil, d.nonce(), wire[5:n], wire[:5])
	if err != nil {
		d.t.Fatalf("a record that the other side's key does not open: %v", err)
	}
	return inner[len(inner)-1], string(inner[:len(inner)-1]), wire[n:]
}

// keyLog reads secrets out of a tls.Config's KeyLogWriter.
type keyLog struct{ bytes.Buffer }

func (l *keyLog) secret(t *testing.T, label string) []byte {
	t.Helper()
	for line := range strings.SplitSeq(l.String(), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

// TestKeyUpdate: the peer changes its key and asks for ours to be changed; both
// sides go on (RFC 8446 section 4.6.3), also when the update comes in pieces and
// more often than once.
func TestKeyUpdate(t *testing.T) {
	const handshake, data = 22, 23
	for _, step := range []int{1, 0} {
		server, client := configs(t, tls.VersionTLS13)
		server.SessionTicketsDisabled = true
		var log keyLog
		client.KeyLogWriter = &log
		p := newPair(t, server, client)
		if id := p.server.conn.State().CipherSuite; id != tls.TLS_AES_128_GCM_SHA256 {
			t.Fatalf("cipher suite %s: the test seals with AES-128 only", tls.CipherSuiteName(id))
		}
		ours, theirs := newTraffic(t, log.secret(t, "CLIENT_TRAFFIC_SECRET_0")), newTraffic(t, log.secret(t, "SERVER_TRAFFIC_SECRET_0"))
		p.server.toy.echo = true
		for range 3 {
			wire := ours.seal(handshake, "\x18\x00\x00\x01\x01") // update_requested
			ours = ours.next()
			wire = append(wire, ours.seal(data, "ping")...)
			if err := feed(p.server, wire, step); err != nil {
				t.Fatal(err)
			}
			kind, text, rest := theirs.open(p.server.TakeOutput(nil))
			if kind != handshake || text != "\x18\x00\x00\x01\x00" {
				t.Fatalf("record type %d, %q; want a key update that asks for none", kind, text)
			}
			theirs = theirs.next()
			if kind, text, rest = theirs.open(rest); kind != data || text != "ping" || len(rest) > 0 {
				t.Fatalf("record type %d, %q and %d bytes more; want the echo", kind, text, len(rest))
			}
		}
		// Updates without end advance nothing: the connection is cut.
		var err error
		for range 100 {
			wire := ours.seal(handshake, "\x18\x00\x00\x01\x00")
			ours = ours.next()
			if err = feed(p.server, wire, step); err != nil {
				break
			}
		}
		if err == nil || !p.server.Closing() {
			t.Errorf("a hundred key updates in a row: %v, closing %v; want an end", err, p.server.Closing())
		}
	}
}

// TestAPeerReadsWhatItAsksFor: who asks for key updates and takes none of the
// answers is not read any more until it does.
func TestAPeerReadsWhatItAsksFor(t *testing.T) {
	server, client := configs(t, tls.VersionTLS13)
	server.SessionTicketsDisabled = true
	var log keyLog
	client.KeyLogWriter = &log
	p := newPair(t, server, client)
	ours := newTraffic(t, log.secret(t, "CLIENT_TRAFFIC_SECRET_0"))
	p.server.TakeOutput(nil)
	n := 0
	for ; p.server.Reading(); n++ {
		if n == 10_000 {
			t.Fatal("ten thousand answers wait for a peer that reads none")
		}
		wire := ours.seal(22, "\x18\x00\x00\x01\x01")
		ours = ours.next()
		if err := feed(p.server, append(wire, ours.seal(23, "x")...), 0); err != nil {
			t.Fatal(err)
		}
	}
	if out := p.server.TakeOutput(nil); len(out) < maxOwed || !p.server.Reading() {
		t.Errorf("%d bytes after %d updates, reading %v; want reading to go on once they are sent", len(out), n, p.server.Reading())
	}
}

// tap keeps what passes a connection in the handshake.
type tap struct {
	net.Conn
	sent, got []byte
}

func (c *tap) Write(p []byte) (int, error) {
	c.sent = append(c.sent, p...)
	return c.Conn.Write(p)
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.got = append(c.got, p[:n]...)
	return n, err
}

// prf is P_SHA256 of RFC 5246 section 5.
func prf(secret []byte, label string, seed []byte, n int) (out []byte) {
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// TestRenegotiationIsRefused: a client of TLS 1.2 that begins another handshake on
// the connection gets an alert, and the engine sees nothing of it.
func TestRenegotiationIsRefused(t *testing.T) {
	server, client := configs(t, tls.VersionTLS12)
	var log keyLog
	client.KeyLogWriter = &log
	client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	near, far := net.Pipe()
	wire := &tap{Conn: far}
	s, c := Server(near, nil, server, nil), Client(wire, client)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	inner := new(toy)
	e := side{NewEngine(s, inner), inner}

	// The client's write key, and its ClientHello, which it says again.
	fields := strings.Fields(log.String()) // CLIENT_RANDOM, random, master secret
	master, err := hex.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.sent[5 : 5+int(binary.BigEndian.Uint16(wire.sent[3:]))]
	clientRandom, serverRandom := hello[6:38], wire.got[11:43]
	keys := prf(master, "key expansion", append(bytes.Clone(serverRandom), clientRandom...), 2*16+2*4)
	block, err := aes.NewCipher(keys[:16])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	seq := []byte{0, 0, 0, 0, 0, 0, 0, 1} // Finished was 0
	head := []byte{22, 3, 3}
	about := binary.BigEndian.AppendUint16(append(bytes.Clone(seq), head...), uint16(len(hello)))
	record := binary.BigEndian.AppendUint16(bytes.Clone(head), uint16(len(seq)+len(hello)+aead.Overhead()))
	record = append(record, seq...)
	record = aead.Seal(record, append(bytes.Clone(keys[32:36]), seq...), hello, about)

	got := feed(e, record, 0)
	if broken, ok := errors.AsType[*Error](got); !ok || !strings.Contains(broken.Error(), "unexpected") {
		t.Errorf("Feed: %v, want that the handshake message is not expected", got)
	}
	if len(inner.in) > 0 || !e.Closing() || len(e.TakeOutput(nil)) == 0 {
		t.Errorf("the engine got %d bytes, closing %v; want an alert and an end", len(inner.in), e.Closing())
	}
}
