package snapshot

import "time"

// Protocol is what an endpoint speaks.
type Protocol uint8

// The protocols.
const (
	Auto       Protocol = iota // probe HTTP/2 with prior knowledge, fall back to HTTP/1.1, remember
	H2C                        // HTTP/2 with prior knowledge, always
	H1                         // HTTP/1.1, always
	Downstream                 // what the caller speaks (use_downstream_protocol_config)
)

// String returns the protocol as its URL scheme.
func (p Protocol) String() string {
	switch p {
	case H2C:
		return "h2c"
	case H1:
		return "h1"
	case Downstream:
		return "downstream"
	default:
		return "http"
	}
}

// Cluster is a set of endpoints that answer alike. Settings and Assignment
// change apart from one another and are compared by pointer.
type Cluster struct {
	*ClusterSettings
	Assignment *Assignment // nil while it is not known: the cluster is cold
	Retained   bool        // no longer configured, and kept for who still uses it
}

// ClusterSettings is what a cluster says of itself.
type ClusterSettings struct {
	Name       string
	Discovery  Discovery
	Service    string      // EDS: the name of its assignment
	Static     *Assignment // STATIC; STRICT_DNS and LOGICAL_DNS: the names to resolve
	DNSRefresh time.Duration
	DNSFamily  DNSFamily
	Balance    Balance

	Protocol       Protocol
	ConnectTimeout time.Duration
	IdleTimeout    time.Duration // an upstream connection without a stream; 0: never
	MaxRequests    uint32        // max_requests_per_connection; 0: no limit
	MaxStreams     uint32        // http2 max_concurrent_streams of our own accord; 0: the peer's
	StreamWindow   uint32
	ConnWindow     uint32
	BufferLimit    uint32 // per_connection_buffer_limit_bytes
	KeepAlive      KeepAlive
	TLS            *TLS          // nil: plain text
	Thresholds     [2]Thresholds // by Priority

	// Fetch is eds_config.initial_fetch_timeout: how long the assignment may take to
	// come before it counts as missing; 0: for ever.
	Fetch time.Duration
	Model *ModelRouting // metadata quadnine.model: for what the route says nothing of; nil: nothing
}

// Discovery is how a cluster's endpoints are found.
type Discovery uint8

// The kinds.
const (
	Static Discovery = iota
	StrictDNS
	LogicalDNS
	EDS
)

// String returns the kind as Envoy's configuration spells it.
func (d Discovery) String() string {
	return [...]string{"STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS"}[d]
}

// DNSFamily is dns_lookup_family.
type DNSFamily uint8

// The families.
const (
	DNSAuto DNSFamily = iota // IPv6, and IPv4 when there is none
	DNSV4Only
	DNSV6Only
	DNSV4Preferred
	DNSAll
)

// KeepAlive is tcp_keepalive; zero values leave the kernel's.
type KeepAlive struct {
	On             bool
	Probes         int
	Time, Interval time.Duration
}

// Balance is how an endpoint is chosen.
type Balance struct {
	Policy     BalancePolicy
	Choices    uint32  // LeastRequest: choice_count, at least 2
	Panic      float64 // healthy_panic_threshold, percent; default 50
	ByLocality bool    // locality_weighted_lb_config
}

// BalancePolicy is a load balancing policy.
type BalancePolicy uint8

// The policies.
const (
	// LeastOfTwo, for clusters from flags: rotating, the less loaded of two.
	LeastOfTwo BalancePolicy = iota
	RoundRobin
	LeastRequest
	Random
)

// Thresholds are circuit_breakers.thresholds of one priority. They hold for the
// cluster as a whole, over all shards.
type Thresholds struct {
	MaxConnections uint32 // default 1024
	MaxPending     uint32 // default 1024: requests that wait for a connection
	MaxRequests    uint32 // default 1024
	MaxRetries     uint32 // default 3

	// With retry_budget, that many percent of the requests that run or wait may be
	// retries, and MinRetries in any case, instead of MaxRetries.
	HasRetryBudget bool
	RetryPercent   float64 // default 20
	MinRetries     uint32  // default 3
}

// DefaultThresholds are Envoy's.
var DefaultThresholds = Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3}

// Assignment is a ClusterLoadAssignment.
type Assignment struct {
	Endpoints        []Endpoint // in the order given; priorities and localities stand in each
	Overprovisioning uint32     // percent; 140 by default
	Localities       []Locality // what Endpoint.Locality counts in
}

// Locality is a group of endpoints with a weight of its own.
type Locality struct {
	Region, Zone, SubZone string
	Weight                uint32 // 0: not chosen where localities are weighted
	Priority              uint32
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address  string // host:port
	Hostname string // for the authority and health checks; "" without
	Protocol Protocol
	Weight   uint32 // 1 by default
	Health   Health
	Locality int // index into Assignment.Localities; its priority is there
}

// Health is what a management server says of an endpoint.
type Health uint8

// The healths.
const (
	Healthy   Health = iota // also unknown
	Degraded                // only when the healthy ones do not suffice
	Unhealthy               // also draining and timed out
)
