package snapshot

import (
	"net/netip"
	"time"

	"github.com/quadnine/quadnine/policy"
)

// Role is on which side of the service a listener stands.
type Role uint8

// The roles.
const (
	// Inbound stands in front of the local app. Peers are only a degrade step
	// and every request makes at most two hops.
	Inbound Role = iota
	// Outbound balances over all endpoints of a cluster.
	Outbound
)

// String returns the role as it is written in flags.
func (r Role) String() string {
	if r == Outbound {
		return "outbound"
	}
	return "inbound"
}

// Protocol is what an endpoint speaks.
type Protocol uint8

// The protocols.
const (
	Auto Protocol = iota // probe HTTP/2 with prior knowledge, fall back to HTTP/1.1, remember
	H2C                  // HTTP/2 with prior knowledge, always
	H1                   // HTTP/1.1, always
)

// String returns the protocol as its URL scheme.
func (p Protocol) String() string {
	switch p {
	case H2C:
		return "h2c"
	case H1:
		return "h1"
	default:
		return "http"
	}
}

// Snapshot is one whole configuration.
type Snapshot struct {
	Listener Listener
	Routes   []*Route // in the order in which they are tried: longest prefix first
	Local    *Cluster // the upstream tried first
	Peers    *Cluster // the degrade step of an inbound listener; nil without peers
	Breaker  policy.BreakerConfig
	Cache    policy.CacheConfig
}

// Listener says what is accepted and how a request is named.
type Listener struct {
	Role    Role
	Trusted []netip.Prefix // callers whose x-quadnine-hop is kept
	Keys    Keys
}

// Trusts reports whether addr may set x-quadnine-hop.
func (l *Listener) Trusts(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, p := range l.Trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Route is where the requests under one path prefix go.
type Route struct {
	Prefix  string
	Cluster *Cluster
	Degrade bool          // replies are stored and answer when the upstream is unwell
	Timeout time.Duration // from the whole request to the response head
	Idle    time.Duration // without any progress of either body
}

// Cluster is a set of endpoints that answer alike.
type Cluster struct {
	Name      string
	Endpoints []Endpoint
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address  string // host:port
	Protocol Protocol
}

// Match returns the first route whose prefix covers path, or nil. A prefix ends
// at a path segment: "/api" covers "/api" and "/api/x", not "/apix".
func (s *Snapshot) Match(path []byte) *Route {
	for _, r := range s.Routes {
		if covers(r.Prefix, path) {
			return r
		}
	}
	return nil
}

func covers(prefix string, path []byte) bool {
	if prefix == "" {
		return true // also "*", the target of OPTIONS
	}
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/' || path[len(prefix)] == '?'
}
