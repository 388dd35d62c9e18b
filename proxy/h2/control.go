package h2

import (
	"bytes"
	"sync"

	"golang.org/x/net/http2"
)

// codec is x/net's Framer over memory. Control frames are rare, so connections
// share codecs instead of holding one each.
type codec struct {
	framer *http2.Framer
	in     bytes.Buffer
	out    bytes.Buffer
}

var codecs = sync.Pool{New: func() any {
	k := new(codec)
	k.framer = http2.NewFramer(&k.out, &k.in)
	return k
}}

// write appends one frame to the output. Writing to memory cannot fail; an
// error could only be a value of ours that the Framer refuses.
func (c *Conn) write(frame func(*http2.Framer) error) {
	k := codecs.Get().(*codec)
	k.out.Reset()
	if frame(k.framer) == nil {
		c.out.b = append(c.out.b, k.out.Bytes()...)
	}
	codecs.Put(k)
}

var controlNames = map[frameType]string{frameSettings: "SETTINGS", framePing: "PING", frameGoAway: "GOAWAY"}

// onControl acts on SETTINGS, PING and GOAWAY, which x/net's Framer checks and
// parses.
func (c *Conn) onControl(h frameHeader, p []byte) {
	k := codecs.Get().(*codec)
	k.in.Reset()
	var head [frameHeaderLen]byte
	k.in.Write(appendHeader(head[:0], h.length, h.typ, h.flags, h.stream))
	k.in.Write(p)
	f, err := k.framer.ReadFrame()
	if err != nil {
		c.failFrame(err, controlNames[h.typ]+" is not valid: its length, stream or value is wrong")
		return
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		c.onSettings(f)
	case *http2.PingFrame:
		c.onPing(f)
	case *http2.GoAwayFrame:
		c.onGoAway(f)
	}
	codecs.Put(k)
}

func (c *Conn) onPing(f *http2.PingFrame) {
	c.stats.Pings++
	if f.IsAck() {
		if c.pingsOpen > 0 {
			c.pingsOpen--
			return
		}
		c.flood(FloodPing)
		return
	}
	if c.chargePing(); c.err != nil {
		return
	}
	c.write(func(w *http2.Framer) error { return w.WritePing(true, f.Data) })
	c.queuedAck()
}

// Ping asks the peer for a sign of life. PingsOpen falls when it answers.
func (c *Conn) Ping() {
	if c.err != nil {
		return
	}
	c.enter()
	c.pingsOpen++
	c.write(func(w *http2.Framer) error { return w.WritePing(false, [8]byte{}) })
	c.leave()
}

// PingsOpen returns how many of our PINGs the peer has not answered.
func (c *Conn) PingsOpen() int { return c.pingsOpen }

func (c *Conn) onGoAway(f *http2.GoAwayFrame) {
	c.stats.GoAways++
	c.goAwayIn = true
	if c.flood(FloodGoAway); c.err != nil {
		return
	}
	if !c.server {
		reason := "the peer is going away: " + ErrCode(f.ErrCode).String()
		for s := c.open.first; s != nil; {
			if s.id != 0 && s.id <= f.LastStreamID {
				s = s.links[openLinks].next
				continue
			}
			c.shut(s, endPeerReset)
			c.tellReset(s, &StreamError{Code: RefusedStream, Remote: true, Unprocessed: true, Reason: reason})
			s = c.open.first // the owner may have changed the list
		}
	}
	c.tellAway()
}

func (c *Conn) tellAway() {
	if !c.toldAway {
		c.toldAway = true
		c.h.OnGoAway(c)
	}
}

func (c *Conn) writeGoAway(last uint32, code ErrCode, reason string) {
	c.write(func(w *http2.Framer) error { return w.WriteGoAway(last, http2.ErrCode(code), []byte(reason)) })
}
