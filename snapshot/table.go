package snapshot

import (
	"regexp"
	"time"
)

// RouteTable is a RouteConfiguration. Call Finish before it is used, which makes
// its index.
type RouteTable struct {
	Name       string
	Hosts      []*VirtualHost
	IgnorePort bool // ignore_port_in_host_matching
	Mutations
	SpecificWins bool     // most_specific_header_mutations_wins: table, host, route instead of route, host, table
	Clusters     []string // all that routes name, sorted, each once
	Validate     bool     // validate_clusters: the table is refused while one of Clusters is not known

	hosts hostIndex
}

// VirtualHost is the routes of some authorities.
type VirtualHost struct {
	Name    string
	Domains []string
	Routes  []*Route
	Mutations
	Policies
	AttemptCount         bool   // include_request_attempt_count
	AttemptCountResponse bool   // include_attempt_count_in_response
	TimeoutRetry         bool   // include_is_timeout_retry_header
	Retry                *Retry // of routes that say nothing of it; nil: only tries that certainly did nothing are repeated

	routes *routeIndex
	few    bool // too few routes for the index to pay
}

// Route is one entry of a virtual host. Exactly one of Forward, Redirect and
// Direct is set.
type Route struct {
	Name     string
	Match    RouteMatch
	Forward  *Forward
	Redirect *Redirect
	Direct   *DirectResponse
	Mutations
	Policies
}

// RouteMatch says which requests a route takes: all that is set must hold.
// Exactly one of Path's kinds is used.
type RouteMatch struct {
	Kind       PathKind
	Path       string         // of Kind Prefix, Exact and SegmentPrefix; no trailing slash with SegmentPrefix
	Regex      *regexp.Regexp // of Kind Regex; matches the whole path without its query
	IgnoreCase bool           // case_sensitive: false
	Headers    []HeaderMatcher
	Query      []QueryMatcher
	Fraction   *Fraction
}

// PathKind is how a path is compared.
type PathKind uint8

// The kinds. The query is not part of what is compared.
const (
	PathPrefix PathKind = iota
	PathExact
	PathSegmentPrefix // path_separated_prefix: "/a" takes "/a" and "/a/b", not "/ab"
	PathRegex
)

// HeaderMatcher is envoy.config.route.v3.HeaderMatcher. At most one of Present,
// Range and String is set; without any of them the field must be present.
type HeaderMatcher struct {
	Name           string // lower case
	Present        *bool  // present_match
	Range          *Range // range_match
	String         *StringMatcher
	Invert         bool
	MissingAsEmpty bool // treat_missing_header_as_empty
}

// Range is a half-open range of whole numbers.
type Range struct{ Start, End int64 }

// QueryMatcher is envoy.config.route.v3.QueryParameterMatcher. The first value
// counts.
type QueryMatcher struct {
	Name    string
	Present *bool
	String  *StringMatcher
}

// StringMatcher is envoy.type.matcher.v3.StringMatcher.
type StringMatcher struct {
	Kind       StringKind
	Value      string         // lower case when IgnoreCase
	Regex      *regexp.Regexp // of Kind StringRegex; matches the whole string
	IgnoreCase bool
}

// StringKind is how a string is compared.
type StringKind uint8

// The kinds.
const (
	StringExact StringKind = iota
	StringPrefix
	StringSuffix
	StringContains
	StringRegex
)

// Fraction is a RuntimeFractionalPercent.
type Fraction struct {
	Key         string // the runtime key that overrides Numerator
	Numerator   uint32
	Denominator uint32 // 100, 10,000 or 1,000,000
}

// Forward is a RouteAction.
type Forward struct {
	Cluster        string            // or one of:
	Weighted       []WeightedCluster // weighted_clusters
	TotalWeight    uint32            // of Weighted
	ClusterHeader  string            // cluster_header: the request field that names the cluster
	NotFoundStatus int               // cluster_not_found_response_code: 503, 404 or 500

	PrefixRewrite string
	RegexRewrite  *RegexRewrite
	Host          HostRewrite
	AppendXFH     bool // append_x_forwarded_host

	// MaxGRPC is max_grpc_timeout, used when HasMaxGRPC: a gRPC request's time-out is
	// then what its grpc-timeout says, at most this (0: whatever it says), and not
	// Timeout.
	MaxGRPC    time.Duration
	HasMaxGRPC bool

	Timeout  time.Duration // from the whole request to the whole response, of flags to its head; 0: none
	Idle     time.Duration // without progress; used when HasIdle, else the connection manager's
	HasIdle  bool
	Priority Priority
	Upgrades map[string]bool // upgrade_configs, over the listener's: whether the type, in lower case, is enabled
	Retry    *Retry          // nil: as the virtual host says
	// MetadataMatch and the like are not supported: the compiler refuses them.
}

// WeightedCluster is one of weighted_clusters.
type WeightedCluster struct {
	Name          string // or
	ClusterHeader string
	Weight        uint32
	Host          string // host_rewrite_literal
	Mutations
	Policies
}

// Priority is which thresholds of a cluster a request counts against.
type Priority uint8

// The priorities.
const (
	PriorityDefault Priority = iota
	PriorityHigh
)

// HostRewrite replaces the authority. At most one of its kinds is set.
type HostRewrite struct {
	Literal string
	Auto    bool   // the endpoint's hostname (STRICT_DNS, LOGICAL_DNS)
	Header  string // the value of this request field, when it is there
	Path    *RegexRewrite
}

// RegexRewrite replaces what a pattern finds. Substitution is in Go's syntax
// ($1 or ${1}).
type RegexRewrite struct {
	Pattern      *regexp.Regexp
	Substitution string
}

// Redirect is a RedirectAction.
type Redirect struct {
	Status        int // 301, 302, 303, 307 or 308
	HTTPS         bool
	Scheme        string
	Host          string
	Port          uint32 // 0: as it was
	Path          string // path_redirect; may hold a query
	PrefixRewrite string
	RegexRewrite  *RegexRewrite
	StripQuery    bool
}

// DirectResponse answers without an upstream.
type DirectResponse struct {
	Status int
	Body   []byte
}

// Mutations change the fields of requests and responses.
type Mutations struct {
	Request, Response []HeaderMutation
}

// HeaderMutation adds, sets or removes one field.
type HeaderMutation struct {
	Name      string // lower case
	Remove    bool
	Value     Format
	Action    AppendAction
	KeepEmpty bool // keep_empty_value
}

// AppendAction is HeaderValueOption.append_action.
type AppendAction uint8

// The actions.
const (
	AppendOrAdd AppendAction = iota
	AddIfAbsent
	OverwriteOrAdd
	OverwriteIfExists
)
