package upstream

import (
	"net"
	"net/netip"
	"slices"

	"github.com/quadnine/quadnine/snapshot"
)

// Request is an exchange's wish for a stream. It is part of the exchange; reset
// it by assignment.
type Request struct {
	Receiver Receiver
	Priority snapshot.Priority // whose thresholds of the cluster it counts against
	Caller   snapshot.Protocol // H1 or H2C: what the caller speaks, for endpoints that are to be spoken to alike
	Upgrade  bool              // it asks to change the protocol, for which HTTP/2 needs extended CONNECT (RFC 8441)
	Endpoint *Endpoint         // set while a stream is held or awaited
	Local    *netip.AddrPort   // our end of the connection that the last stream is on; nil before, and where it is no IP address
	Tried    int               // how many endpoints of the cluster were tried; set it to 0 to begin anew
	Repeat   bool              // it was sent before: where no other endpoint is left, one that was tried is asked again
	Avoid    uint32            // with Repeat, where a management server configures the cluster: how often to draw again what was tried

	first [4]*Endpoint // the first ones of those
	more  []*Endpoint
	why   error // the last one's

	host       *host
	conn       *h2Conn // that carries the stream, where it is HTTP/2
	prev, next *Request
	waiting    bool
}

// note remembers that e is tried.
func (r *Request) note(e *Endpoint) {
	if r.Tried == 0 {
		r.more, r.why = r.more[:0], nil
	}
	if r.Tried < len(r.first) {
		r.first[r.Tried] = e
	} else {
		r.more = append(r.more, e)
	}
	r.Tried++
}

// tried reports whether e was tried.
func (r *Request) tried(e *Endpoint) bool {
	return slices.Contains(r.first[:min(r.Tried, len(r.first))], e) || r.Tried > len(r.first) && slices.Contains(r.more, e)
}

// forget takes back the last note.
func (r *Request) forget() {
	r.Tried--
	if n := len(r.more); n > 0 && r.Tried >= len(r.first) {
		r.more = r.more[:n-1]
	}
}

// whyNot returns why no endpoint is left: what the last one's dial came to, if
// there was one.
func (r *Request) whyNot() error {
	if r.Tried > 0 && r.why != nil {
		return r.why
	}
	return ErrNone
}

// localOf returns our end of nc, or nil.
func localOf(nc net.Conn) *netip.AddrPort {
	a, err := netip.ParseAddrPort(nc.LocalAddr().String())
	if err != nil {
		return nil
	}
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	return &a
}

// release forgets the stream and whose it was.
func (r *Request) release() { r.Endpoint, r.conn = nil, nil }
