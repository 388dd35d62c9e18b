package console

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"time"

	"github.com/quadnine/quadnine"
)

// Views is what the console may look at. All functions must be safe for
// concurrent use. The path of a nil view is not served, but that a nil Ready says
// PreInitializing for ever.
type Views struct {
	Ready    func() State                   // must not block: one atomic load
	Note     func() string                  // what /ready says beside the state, "" for nothing
	Clusters func() iter.Seq[Cluster]       // /clusters
	Breakers func() iter.Seq[Breaker]       // /breakers; may yield tens of thousands
	Models   func() iter.Seq[Model]         // /models
	Explain  func(quadnine.Key) Explanation // /explain; must change nothing, not even take a probe's permit
	Metrics  http.Handler                   // /stats/prometheus; telemetry.Registry.Handler
	Info     func() Info                    // /server_info
	Memory   func() Memory                  // /memory

	Listeners    func() iter.Seq[Listener] // /listeners, by name
	Certificates func() []Certificate      // /certs
	XDS          *XDS                      // nil without a management server or bootstrap
	Control      Control

	// Rollback takes a version out of use, for good, and returns when that is
	// stored, or with ctx. It wraps ErrNoVersion or ErrState when it changed
	// nothing.
	Rollback func(ctx context.Context, model string, version uint64, reason string) error

	GC Collector // POST /models/gc
	// Shadow has a version computed for a percentage of the queries and never served;
	// 0 ends that. StartExperiment and StopExperiment begin and end the experiment
	// called name; winner 0 is none. They wrap the same errors.
	Shadow          func(ctx context.Context, model string, version uint64, percent float64) error
	StartExperiment func(ctx context.Context, model, name, by string, arms []ArmShare) error
	StopExperiment  func(ctx context.Context, model, name string, winner uint64) error
	// Activate makes a version the active one, which may take as long as fetching it
	// does. Its errors are as Rollback's.
	Activate func(ctx context.Context, model string, version uint64) error
}

// State is what /ready says.
type State string

// The states, named as Envoy's ServerInfo names them.
const (
	PreInitializing State = "PRE_INITIALIZING" // no configuration to serve yet
	Live            State = "LIVE"             // new requests are welcome
	Draining        State = "DRAINING"         // requests under way finish, new ones should go elsewhere
)

// Cluster is one upstream cluster.
type Cluster struct {
	Name      string     `json:"name"`
	Breaker   string     `json:"breaker"` // closed, half_open, open
	Default   *Limits    `json:"default_priority,omitempty"`
	High      *Limits    `json:"high_priority,omitempty"`
	ViaAPI    bool       `json:"added_via_api,omitempty"` // a management server named it
	Endpoints []Endpoint `json:"endpoints"`
}

// Limits are a cluster's circuit breaker thresholds of one priority, and what is
// taken of them.
type Limits struct {
	MaxConnections uint32 `json:"max_connections"`
	MaxPending     uint32 `json:"max_pending_requests"`
	MaxRequests    uint32 `json:"max_requests"`
	MaxRetries     uint32 `json:"max_retries"`
	Connections    int64  `json:"connections"`
	Pending        int64  `json:"pending_requests"`
	Requests       int64  `json:"requests"`
	Overflows      uint64 `json:"overflows"` // requests refused because of them
}

// Endpoint is one host of a cluster. Counters run from the process's start.
type Endpoint struct {
	Address         string `json:"address"`            // ip:port
	Hostname        string `json:"hostname,omitempty"` // as configured, when that was a name
	Protocol        string `json:"protocol"`           // h2, http/1.1, or unknown before the first probe
	Healthy         bool   `json:"healthy"`
	Why             string `json:"why,omitempty"` // the reason for not being healthy
	Weight          int    `json:"weight"`
	Connections     int    `json:"connections"`
	ActiveRequests  int    `json:"active_requests"`
	ConnectFailures uint64 `json:"connect_failures"`
	TotalConnects   uint64 `json:"total_connects"`
	Requests        uint64 `json:"requests"`
	Errors          uint64 `json:"errors"`

	Flags     string `json:"health_flags,omitempty"` // as Envoy writes them
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	SubZone   string `json:"sub_zone,omitempty"`
	Priority  uint32 `json:"priority,omitempty"`
	Successes uint64 `json:"successes,omitempty"` // responses that are no server error
	Timeouts  uint64 `json:"timeouts,omitempty"`
}

// Breaker is one tenant+metric key's breaker.
type Breaker struct {
	Tenant     string  `json:"tenant"`
	Metric     string  `json:"metric"`
	State      string  `json:"state"`    // closed, half_open, open
	Failures   int     `json:"failures"` // in the window now
	Threshold  int     `json:"threshold"`
	Window     Seconds `json:"window_s"`
	RetryAfter Seconds `json:"retry_after_s,omitzero"` // until the next probe; only when open
	Reason     string  `json:"reason,omitempty"`       // why it opened, as in x-quadnine-degraded
}

// Explanation is what would happen to a request of a key now, and why: the
// stages in the order in which the request meets them.
type Explanation struct {
	Tenant  string `json:"tenant"`
	Metric  string `json:"metric"`
	Steps   []Step `json:"steps"`
	Verdict string `json:"verdict"` // "would forward", "would answer stale, age 12 s", "would answer 503"
	Because string `json:"because,omitempty"`
}

// Step is one stage's part of an Explanation.
type Step struct {
	Stage   string `json:"stage"` // key, model, route, breaker, cluster, endpoints, cache, hop
	Says    string `json:"says"`
	Because string `json:"because,omitempty"`
}

// Info is what /server_info says beside the state.
type Info struct {
	Version  string    `json:"version"`
	Node     string    `json:"node,omitempty"`
	Role     string    `json:"role"` // inbound, outbound
	Listen   []string  `json:"listen"`
	Upstream []string  `json:"upstream"`
	Started  time.Time `json:"started"`
}

// Memory is what /memory says: what the process holds, the ceilings, and what is
// done against overload now.
type Memory struct {
	Used           int64    `json:"used"`     // bytes; what the ceiling is compared with
	Max            int64    `json:"max"`      // bytes; 0: there is no ceiling
	Resident       int64    `json:"resident"` // bytes, mapped files included; 0: not known
	Connections    int64    `json:"connections"`
	MaxConnections int64    `json:"max_connections"`
	Actions        []string `json:"actions,omitempty"`
}

// Seconds is a duration that stands in JSON as a number of seconds, to the
// millisecond.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(s).Round(time.Millisecond)/time.Millisecond) / 1000)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("console: seconds: %w", err)
	}
	*s = Seconds(math.Round(f * float64(time.Second)))
	return nil
}

// String returns the duration as "1m30s".
func (s Seconds) String() string { return time.Duration(s).Round(time.Millisecond).String() }
