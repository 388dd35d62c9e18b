package snapshot

import (
	"net/netip"
	"strings"
	"time"
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

// Listener says what is accepted on one address and what becomes of it.
type Listener struct {
	Name    string
	Address string // host:port; port 0 picks a free one
	Role    Role
	Trusted []netip.Prefix // callers whose x-quadnine-hop and x-model-version are believed
	Peers   string         // the cluster of other sidecars, a degrade step of inbound listeners; "" without
	Keys    Keys
	Policies
	HTTP HTTP
	TCP  TCP
	TLS  *TLS // nil: plain text

	// Chains are looked at before what stands here, which is the default filter
	// chain, unless NoDefault says that there is none: then a connection that none
	// of Chains matches is closed.
	Chains    []*Chain
	NoDefault bool
	Handshake time.Duration // transport_socket_connect_timeout; 0: ours

	Inline    *RouteTable // the routes, or else
	RouteName string      // the name of the table that holds them
	// RouteFetch is rds.config_source.initial_fetch_timeout: how long the table may
	// take to come before it counts as missing; 0: for ever.
	RouteFetch time.Duration
}

// PicksPort reports whether two listeners on the same address get two ports.
func (l *Listener) PicksPort() bool { return strings.HasSuffix(l.Address, ":0") }

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

// TCP holds what a listener asks of the kernel and of its connections' buffers.
type TCP struct {
	BufferLimit uint32 // per_connection_buffer_limit_bytes; 0: ours
	Options     []SocketOption
}

// SocketOption is one setsockopt call of Listener.socket_options.
type SocketOption struct {
	Level, Name int
	Int         int
	Bytes       []byte // instead of Int when not nil
}

// HTTP is the connection manager of a listener. Names in comments are the fields
// of envoy.extensions.filters.network.http_connection_manager.v3.
type HTTP struct {
	Codec Codec
	// Envoy makes the requests and replies carry what Envoy adds to them by
	// itself: x-forwarded-for and -proto, x-request-id, x-envoy-*. It is set for
	// listeners from a management server and not for those from flags.
	Envoy bool

	UseRemoteAddress  bool // use_remote_address
	TrustedHops       uint32
	SkipAppend        bool // skip_xff_append
	DetectXFF         bool // original_ip_detection_extensions: xff
	DetectHops        uint32
	DetectSkipAppend  bool
	Internal          []netip.Prefix // internal_address_config: callers that may set x-envoy-upstream-rq-timeout-ms and the like
	NormalizePath     bool
	MergeSlashes      bool
	EscapedSlashes    EscapedSlashes
	Underscores       Underscores
	GenerateRequestID bool
	PreserveRequestID bool // preserve_external_request_id
	ServerName        string
	ServerHeader      ServerHeader
	Unanswered        bool // http_filters is empty: nothing answers a request until it times out
	SuppressEnvoy     bool // router: suppress_envoy_headers, no x-envoy-* is added

	RequestTimeout    time.Duration // the whole request must have come within; 0: none
	HeadersTimeout    time.Duration // request_headers_timeout; 0: none
	StreamIdleTimeout time.Duration // without progress of either body; 0: none
	IdleTimeout       time.Duration // a connection without a stream; 0: none
	DrainTimeout      time.Duration // between the two GOAWAYs
	MaxHeadersKB      uint32        // 0: ours
	MaxHeaders        uint32        // 0: ours
	MaxStreams        uint32        // http2: max_concurrent_streams; 0: ours
	StreamWindow      uint32        // http2: initial_stream_window_size; 0: ours
	ConnWindow        uint32        // http2: initial_connection_window_size; 0: ours

	ClientCert   ClientCert
	Proxy100     bool            // proxy_100_continue: the app answers Expect, not the sidecar, and its 1xx responses are passed on
	Upgrades     map[string]bool // upgrade_configs by type, in lower case: whether it is enabled
	AllowConnect bool            // http2: allow_connect: callers are offered extended CONNECT (RFC 8441), which asks for one of Upgrades
	Filters      []Filter        // in the order in which they act, without the router
	AccessLogs   []*AccessLog
}

// Codec is which protocols a listener takes.
type Codec uint8

// The codecs.
const (
	CodecAuto Codec = iota // told by the first bytes
	CodecH1
	CodecH2
)

// EscapedSlashes is path_with_escaped_slashes_action.
type EscapedSlashes uint8

// What becomes of %2F and %5C in a path.
const (
	KeepEscaped EscapedSlashes = iota
	RejectEscaped
	UnescapeAndRedirect
	UnescapeAndForward
)

// Underscores is headers_with_underscores_action: what becomes of a caller's field
// whose name has an underscore, which some servers take for a hyphen.
type Underscores uint8

// What becomes of it.
const (
	AllowUnderscores  Underscores = iota
	RejectUnderscores             // the request is answered 400; a trailer field is dropped
	DropUnderscores
)

// ServerHeader is server_header_transformation.
type ServerHeader uint8

// What becomes of the response's server field.
const (
	ServerPassThrough ServerHeader = iota // also the zero value for listeners from flags
	ServerOverwrite
	ServerAppendIfAbsent
)

// Filter is one HTTP filter before the router. Exactly one field is set.
type Filter struct {
	Name        string
	HealthCheck *HealthCheck
}

// HealthCheck is envoy.extensions.filters.http.health_check.v3.HealthCheck.
type HealthCheck struct {
	PassThrough bool
	CacheFor    time.Duration // cache_time: a passed-through answer stands in for the next ones
	Headers     []HeaderMatcher
	MinHealthy  []ClusterMin // cluster_min_healthy_percentages; only without PassThrough
}

// ClusterMin is the share of a cluster's endpoints that must be healthy, in
// percent.
type ClusterMin struct {
	Cluster string
	Percent float64
}

// AccessLog is a file access log.
type AccessLog struct {
	Path    string      // a file, /dev/stdout or /dev/stderr
	Format  Format      // one line; ends with a line feed
	JSON    []JSONField // instead of Format when not nil, in the order of the output
	Flags   []string    // response_flag filter: one of these must be set; nil: every request
	AnyFlag bool        // response_flag filter without flags: any flag
}

// JSONField is one field of a JSON access log.
type JSONField struct {
	Name  string
	Value Format
}
