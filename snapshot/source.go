package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is what `quadnine run` was told: its flags and quadnine.yaml.
type Source struct {
	Role      string        // "inbound" or "outbound"
	Upstreams []string      // URLs: http://, h2c://, h1:// or https://
	Peers     []string      // URLs of other sidecars' inbound listeners
	Trust     []string      // CIDRs or addresses
	Degrade   []string      // path prefixes whose replies are stored
	Upgrades  []string      // protocols that callers may change to; none: nil, or "none" alone
	Codec     string        // "auto" or "": told by a connection's first bytes; "http1", "http2"
	Retry     string        // "on" or "": what is safe is sent again; "off": only what certainly did nothing
	RetryBody int           // bytes of a request's body that are kept for that
	Timeout   time.Duration // to a response's head
	Idle      time.Duration // without progress
	File      *File         // nil: defaults; its Models are not of the snapshot
	TLS       SourceTLS
}

// Compile checks src and returns its snapshot. The error joins one line for each
// thing that is wrong, each naming the flag.
func Compile(src Source) (*Snapshot, error) {
	l := &Listener{Name: mainListener, HTTP: HTTP{DrainTimeout: drainTime}}
	s := &Snapshot{Listeners: []*Listener{l}, Clusters: make(map[string]*Cluster)}
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{flag}, args...)...))
	}
	file := src.File
	if file == nil {
		file = new(File)
	}
	settings, err := file.settings()
	if err != nil {
		errs = append(errs, err)
	}
	l.Keys, l.Breaker = settings.keys, &Breaker{Scope: "listener/" + mainListener, Config: settings.breaker}
	switch src.Role {
	case "inbound":
	case "outbound":
		l.Role = Outbound
	default:
		bad("--role", "%q is no role: use inbound (in front of the local app) or outbound", src.Role)
	}
	if len(src.Upstreams) == 0 {
		bad("--upstream", "give at least one, like --upstream http://127.0.0.1:8080")
	}
	l.TLS = src.TLS.listener(bad)
	s.Clusters[LocalCluster] = fixed(LocalCluster, endpoints("--upstream", src.Upstreams, bad))
	secret, peersSecret := https("--upstream", src.Upstreams, bad), https("--peer", src.Peers, bad)
	upstreams := src.TLS.upstream(secret || peersSecret, bad)
	if secret {
		s.Clusters[LocalCluster].secure(upstreams)
	}
	if len(src.Peers) > 0 {
		l.Peers = PeersCluster
		s.Clusters[PeersCluster] = fixed(PeersCluster, endpoints("--peer", src.Peers, bad))
		if peersSecret {
			s.Clusters[PeersCluster].secure(upstreams)
		}
		if l.Role == Outbound {
			bad("--peer", "an outbound listener has no peers: list every endpoint with --upstream")
		}
		if len(src.Trust) == 0 {
			bad("--peer", "needs --trust with the peers' addresses (a CIDR): without it their x-quadnine-hop mark is ignored and a request could circle among sidecars")
		}
	}
	for _, t := range src.Trust {
		p, err := netip.ParsePrefix(t)
		if a, aerr := netip.ParseAddr(t); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			bad("--trust", "%q is no CIDR: write 10.0.0.0/8 or an address", t)
			continue
		}
		l.Trusted = append(l.Trusted, p.Masked())
	}
	if src.Timeout <= 0 {
		bad("--timeout", "is %v: want more than 0", src.Timeout)
	}
	if src.Idle <= 0 {
		bad("--idle-timeout", "is %v: want more than 0", src.Idle)
	}
	l.HTTP.Upgrades = upgrades(src.Upgrades, bad)
	l.HTTP.AllowConnect = len(l.HTTP.Upgrades) > 0
	switch src.Codec {
	case "", "auto":
	case "http1":
		l.HTTP.Codec = CodecH1
	case "http2":
		l.HTTP.Codec = CodecH2
	default:
		bad("--codec", "%q is no codec: use auto, http1 or http2", src.Codec)
	}
	l.HTTP.IdleTimeout = idleConn
	forward := &Forward{Cluster: LocalCluster, NotFoundStatus: 503, Timeout: src.Timeout, Idle: src.Idle, HasIdle: true, Retry: src.retry(bad)}
	stored := Policies{Cache: &Cache{Scope: "listener/" + mainListener, Config: settings.cache}}
	var routes []*Route
	for _, p := range src.Degrade {
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?# ") {
			bad("--degrade", "%q is no path prefix: it starts with / and has no query", p)
			continue
		}
		r := &Route{Name: p, Match: RouteMatch{Kind: PathSegmentPrefix, Path: p}, Forward: forward, Policies: stored}
		if strings.HasSuffix(p, "/") {
			r.Match.Kind = PathPrefix
		}
		routes = append(routes, r)
	}
	slices.SortStableFunc(routes, func(a, b *Route) int { return cmp.Compare(len(b.Match.Path), len(a.Match.Path)) })
	// Also beside a route for "/": the target of OPTIONS may be "*".
	routes = append(routes, &Route{Forward: forward})
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	table := &RouteTable{
		Name:     mainListener,
		Hosts:    []*VirtualHost{{Name: mainListener, Domains: []string{"*"}, Routes: routes}},
		Clusters: []string{LocalCluster},
	}
	if err := table.Finish(nil); err != nil {
		return nil, err
	}
	l.Inline = table
	return s, nil
}

// protocolName is a token (RFC 9110 section 5.6.2), as in Upgrade without a version.
var protocolName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// upgrades checks the protocols that callers may change to.
func upgrades(names []string, bad func(flag, format string, args ...any)) map[string]bool {
	if len(names) == 0 || len(names) == 1 && names[0] == "none" {
		return nil
	}
	known := make(map[string]bool)
	for _, name := range names {
		switch lower := strings.ToLower(name); {
		case lower == "h2c":
			bad("--upgrade", "h2c is no longer an upgrade (RFC 9113 section 3.1): callers speak HTTP/2 from the start")
		case !protocolName.MatchString(name) || lower == "none" || strings.HasPrefix(lower, "connect"):
			bad("--upgrade", "%q is no protocol to change to: name some like websocket, or none alone", name)
		default:
			known[lower] = true
		}
	}
	return known
}

// maxRetryBody is the most that --retry-body may be: all bodies together are held
// within 64 MiB.
const maxRetryBody = 8 << 20

// retry is the policy that the flags ask for.
func (src *Source) retry(bad func(flag, format string, args ...any)) *Retry {
	if src.RetryBody < 0 || src.RetryBody > maxRetryBody {
		bad("--retry-body", "is %d: want 0 to %d bytes", src.RetryBody, maxRetryBody)
	}
	switch src.Retry {
	case "", "on":
		return FlagRetry(src.RetryBody)
	case "off":
		if src.RetryBody > 0 {
			bad("--retry-body", "keeps bodies for another try, and --retry is off: leave one of them out")
		}
	default:
		bad("--retry", "%q is neither on nor off", src.Retry)
	}
	return nil
}

// The names of what flags configure.
const (
	mainListener = "main"
	LocalCluster = "local" // the upstream tried first
	PeersCluster = "peers" // the degrade step of an inbound listener
)

const (
	idleConn  = 5 * time.Minute        // a caller's connection without a stream
	drainTime = 500 * time.Millisecond // between the two GOAWAYs
)

// fixed is a cluster of endpoints that flags name.
func fixed(name string, endpoints []Endpoint) *Cluster {
	return &Cluster{
		ClusterSettings: &ClusterSettings{
			Name: name, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
			Thresholds: [2]Thresholds{flagThresholds, flagThresholds},
		},
		Assignment: &Assignment{Endpoints: endpoints, Overprovisioning: 140, Localities: []Locality{{}}},
	}
}

// flagThresholds bound what clusters from flags take: only how many wait.
var flagThresholds = Thresholds{MaxConnections: math.MaxUint32, MaxPending: 1024, MaxRequests: math.MaxUint32, MaxRetries: math.MaxUint32}

var defaultPorts = map[string]string{"https": "443"}

func endpoints(flag string, urls []string, bad func(string, string, ...any)) []Endpoint {
	var out []Endpoint
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			bad(flag, "%q is no URL: write http://host:port (h2c:// and h1:// force the protocol)", raw)
			continue
		}
		e := Endpoint{Weight: 1}
		switch u.Scheme {
		case "http":
		case "h2c":
			e.Protocol = H2C
		case "h1":
			e.Protocol = H1
		case "https":
			e.Hostname = u.Hostname()
		default:
			bad(flag, "%q: unknown scheme %q: use http, h2c, h1 or https", raw, u.Scheme)
			continue
		}
		if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			bad(flag, "%q: only a host and a port may follow the scheme: paths are forwarded unchanged", raw)
			continue
		}
		if u.Hostname() == "" {
			bad(flag, "%q has no host: write http://127.0.0.1:port for the local app", raw)
			continue
		}
		port := cmp.Or(u.Port(), defaultPorts[u.Scheme], "80")
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad(flag, "%q: port %s is not within 1 to 65535", raw, port)
			continue
		}
		e.Address = net.JoinHostPort(u.Hostname(), port)
		out = append(out, e)
	}
	return out
}
