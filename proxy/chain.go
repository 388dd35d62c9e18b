package proxy

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

// place is a filter chain of a socket, or what a socket does without one. It
// outlives states: connections look up their site in it for every request.
type place struct {
	terms   string // of its connections' TLS
	site    atomic.Pointer[site]
	retired atomic.Bool // it is gone: connections drain
}

// placeFor returns where connections as l says go on from was, which may be nil:
// there, unless they have to be secured in another way than those that are there.
func placeFor(was *place, l *snapshot.Listener) *place {
	terms := l.TLS.Terms()
	if was != nil && (was.terms == terms || l.TLS != nil && l.TLS.Missing != "") {
		return was
	}
	return &place{terms: terms}
}

// chain is a place and how connections come to it.
type chain struct {
	*place
	match     *snapshot.ChainMatch
	tls       *secure.Context // nil: plain text
	handshake time.Duration
}

// chains is what a new connection's place is chosen from. It is immutable.
type chains struct {
	ports  map[uint32]map[string][]*chain // destination_port (0: any), then server name: exact, ".example.com" or "" for any
	all    []*chain                       // of ports, once each
	base   *chain                         // the default filter chain; nil: there is none
	tls    bool                           // a chain takes TLS
	plain  bool                           // a chain takes plain text
	byPort bool                           // a chain matches on the port
}

// hello is what is known of a connection before its first request.
type hello struct {
	port    uint32   // that it came to
	tls     bool     // it begins with TLS
	name    string   // SNI, in lower case; "" without
	offered []string // ALPN
}

// choose returns the chain of a connection, or nil when none takes it. The most
// specific match wins field by field, in Envoy's order, and what an earlier field
// has left out does not come back (findFilterChain of
// source/common/listener_manager/filter_chain_manager_impl.cc).
func (cs *chains) choose(h *hello) *chain {
	names := cs.ports[h.port]
	if names == nil {
		names = cs.ports[0]
	}
	found := byName(names, h.name)
	transport := transportRaw
	if h.tls {
		transport = transportTLS
	}
	if !slices.ContainsFunc(found, func(c *chain) bool { return c.match.Transport == transport }) {
		transport = ""
	}
	for _, p := range h.offered {
		for _, c := range found {
			if c.match.Transport == transport && slices.Contains(c.match.Applications, p) {
				return c
			}
		}
	}
	for _, c := range found {
		if c.match.Transport == transport && len(c.match.Applications) == 0 {
			return c
		}
	}
	return cs.base
}

// The values of snapshot.ChainMatch.Transport.
const (
	transportRaw = "raw_buffer"
	transportTLS = "tls"
)

// byName returns the chains with the server name that says most about name.
func byName(names map[string][]*chain, name string) []*chain {
	if len(names) == 0 {
		return nil
	}
	if name != "" {
		if found := names[name]; found != nil {
			return found
		}
		for rest := name; ; {
			i := strings.IndexByte(rest[1:], '.')
			if i < 0 {
				break
			}
			if rest = rest[1+i:]; len(rest) < 2 {
				break
			}
			if found := names[rest]; found != nil {
				return found
			}
		}
	}
	return names[""]
}

// alpnOf returns the application protocols that codec speaks, which a listener
// chooses from where its TLS does not say.
func alpnOf(codec snapshot.Codec) []string {
	switch codec {
	case snapshot.CodecH1:
		return []string{"http/1.1"}
	case snapshot.CodecH2:
		return []string{"h2"}
	default:
		return []string{"h2", "http/1.1"}
	}
}

// chainOf returns the way to p, of which l says how.
func (s *Server) chainOf(p *place, l *snapshot.Listener, m *snapshot.ChainMatch) *chain {
	c := &chain{place: p, match: m, handshake: l.Handshake}
	if l.TLS != nil {
		c.tls = s.secure.Server(l.TLS, alpnOf(l.HTTP.Codec))
	}
	return c
}

// arrange gives k what st says, chain by chain, and returns the places that are
// gone. s.mu is held.
func (s *Server) arrange(k *socket, st *site) (gone []*place) {
	cs := &chains{}
	add := func(c *chain) *chain {
		cs.tls, cs.plain = cs.tls || c.tls != nil, cs.plain || c.tls == nil
		return c
	}
	base := k.base
	if k.base = nil; !st.NoDefault {
		k.base = placeFor(base, st.Listener)
		k.base.site.Store(st)
		cs.base = add(s.chainOf(k.base, st.Listener, nil))
	}
	if base != nil && base != k.base {
		gone = append(gone, base)
	}
	before := k.places
	k.places = make(map[string]*place, len(st.Chains))
	for i, c := range st.Chains {
		p := placeFor(before[c.Name], c.Listener)
		k.places[c.Name] = p
		p.site.Store(st.chains[i])
		cs.add(add(s.chainOf(p, c.Listener, &c.Match)))
	}
	for name, p := range before {
		if k.places[name] != p {
			gone = append(gone, p)
		}
	}
	for _, p := range gone {
		p.retired.Store(true)
	}
	k.chains.Store(cs)
	return gone
}

func (cs *chains) add(c *chain) {
	if cs.ports == nil {
		cs.ports = make(map[uint32]map[string][]*chain)
	}
	names := cs.ports[c.match.Port]
	if names == nil {
		names = make(map[string][]*chain)
		cs.ports[c.match.Port] = names
	}
	cs.all, cs.byPort = append(cs.all, c), cs.byPort || c.match.Port != 0
	if len(c.match.ServerNames) == 0 {
		names[""] = append(names[""], c)
	}
	for _, n := range c.match.ServerNames {
		n = strings.ToLower(strings.TrimPrefix(n, "*"))
		names[n] = append(names[n], c)
	}
}

// portOf returns the port that nc came to; 0 when it has none.
func portOf(nc net.Conn) uint32 {
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		return uint32(a.Port)
	}
	a, err := netip.ParseAddrPort(nc.LocalAddr().String())
	if err != nil {
		return 0
	}
	return uint32(a.Port())
}
