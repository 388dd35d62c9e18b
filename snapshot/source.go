package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is what `quadnine run` was told: its flags and quadnine.yaml.
type Source struct {
	Role      string        // "inbound" or "outbound"
	Upstreams []string      // URLs: http://, h2c:// or h1://
	Peers     []string      // URLs of other sidecars' inbound listeners
	Trust     []string      // CIDRs or addresses
	Degrade   []string      // path prefixes whose replies are stored
	Timeout   time.Duration // to a response's head
	Idle      time.Duration // without progress
	File      *File         // nil: defaults
}

// Compile checks src and returns its snapshot. The error joins one line for each
// thing that is wrong, each naming the flag.
func Compile(src Source) (*Snapshot, error) {
	s := new(Snapshot)
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{flag}, args...)...))
	}
	file := src.File
	if file == nil {
		file = new(File)
	}
	if err := file.apply(s); err != nil {
		errs = append(errs, err)
	}
	switch src.Role {
	case "inbound":
	case "outbound":
		s.Listener.Role = Outbound
	default:
		bad("--role", "%q is no role: use inbound (in front of the local app) or outbound", src.Role)
	}
	if len(src.Upstreams) == 0 {
		bad("--upstream", "give at least one, like --upstream http://127.0.0.1:8080")
	}
	s.Local = &Cluster{Name: "local", Endpoints: endpoints("--upstream", src.Upstreams, bad)}
	if len(src.Peers) > 0 {
		s.Peers = &Cluster{Name: "peers", Endpoints: endpoints("--peer", src.Peers, bad)}
		if s.Listener.Role == Outbound {
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
		s.Listener.Trusted = append(s.Listener.Trusted, p.Masked())
	}
	if src.Timeout <= 0 {
		bad("--timeout", "is %v: want more than 0", src.Timeout)
	}
	if src.Idle <= 0 {
		bad("--idle-timeout", "is %v: want more than 0", src.Idle)
	}
	route := Route{Cluster: s.Local, Timeout: src.Timeout, Idle: src.Idle}
	for _, p := range src.Degrade {
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?# ") {
			bad("--degrade", "%q is no path prefix: it starts with / and has no query", p)
			continue
		}
		r := route
		r.Prefix, r.Degrade = p, true
		s.Routes = append(s.Routes, &r)
	}
	slices.SortStableFunc(s.Routes, func(a, b *Route) int { return cmp.Compare(len(b.Prefix), len(a.Prefix)) })
	// Also beside a route for "/": the target of OPTIONS may be "*".
	s.Routes = append(s.Routes, &route)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// maxEndpoints is what one request can keep in mind of where it was tried.
const maxEndpoints = 64

func endpoints(flag string, urls []string, bad func(string, string, ...any)) []Endpoint {
	var out []Endpoint
	if len(urls) > maxEndpoints {
		bad(flag, "%d endpoints are too many: at most %d", len(urls), maxEndpoints)
	}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			bad(flag, "%q is no URL: write http://host:port (h2c:// and h1:// force the protocol)", raw)
			continue
		}
		e := Endpoint{}
		switch u.Scheme {
		case "http":
		case "h2c":
			e.Protocol = H2C
		case "h1":
			e.Protocol = H1
		case "https":
			bad(flag, "%q: TLS to upstreams is not supported; the sidecar speaks to the app in its own pod", raw)
			continue
		default:
			bad(flag, "%q: unknown scheme %q: use http, h2c or h1", raw, u.Scheme)
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
		port := cmp.Or(u.Port(), "80")
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad(flag, "%q: port %s is not within 1 to 65535", raw, port)
			continue
		}
		e.Address = net.JoinHostPort(u.Hostname(), port)
		out = append(out, e)
	}
	return out
}
