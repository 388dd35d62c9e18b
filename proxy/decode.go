package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

const (
	ownPrefix = "x-quadnine-"
	hopHeader = "x-quadnine-hop"
	// maxName is the longest tenant or metric, in bytes: tables hold tens of
	// thousands of each.
	maxName = 256
)

var (
	errNoTunnel  = errors.New("CONNECT is not served here")
	errNoUpgrade = errors.New("protocol upgrades are not served here; use plain HTTP/1.1 or HTTP/2")
	errLongName  = fmt.Errorf("tenant or metric is longer than %d bytes", maxName)
	errTooLarge  = errors.New("header fields exceed 64 KiB or 100 fields")
)

// decode reads what the sidecar itself needs from the head: the key, the
// deadline, the trace, and whether a trusted sidecar sent it.
type decode struct{ *loop }

func (d decode) Step(x *Exchange) Verdict {
	x.method = parseMethod(x.req.Get(":method"))
	x.grpc = bytes.HasPrefix(x.req.Get("content-type"), []byte("application/grpc"))
	x.path, x.query, _ = bytes.Cut(x.req.Get(":path"), []byte("?"))
	if x.input == nil && d.server.overload.takes(RefuseRequests) {
		return d.shed(x)
	}
	if x.site.HTTP.Envoy && !x.tooLarge {
		if p := d.manage(x); p != nil {
			return x.refuse(p, quadnine.BadRequest, quadnine.Downstream, "head")
		}
		if x.isLocal {
			return Reply
		}
		x.path, x.query, _ = bytes.Cut(x.req.Get(":path"), []byte("?"))
	}
	switch {
	case x.tooLarge && x.site.HTTP.Envoy:
		d.tel.Count(telemetry.RefusedHeaderTooLarge, 1)
		return x.refuse(errPlainTooLarge, quadnine.TooLarge, quadnine.Downstream, "head")
	case x.tooLarge:
		d.tel.Count(telemetry.RefusedHeaderTooLarge, 1)
		x.fail(quadnine.TooLarge, quadnine.Downstream, "head", policy.Unspecified, errTooLarge)
		return Reply
	case x.method == methodConnect && x.site.HTTP.Envoy:
		d.tel.Count(telemetry.RefusedUpgrade, 1)
		return x.refuse(errPlainNoRoute, quadnine.NotFound, quadnine.Downstream, "head")
	case x.method == methodConnect:
		d.tel.Count(telemetry.RefusedUpgrade, 1)
		x.fail(quadnine.Unsupported, quadnine.Downstream, "head", policy.Unspecified, errNoTunnel)
		return Reply
	case x.asksUpgrade() && !x.site.HTTP.Envoy && !x.mayUpgrade():
		d.tel.Count(telemetry.RefusedUpgrade, 1)
		x.fail(quadnine.Unsupported, quadnine.Downstream, "upgrade to "+x.upgrade, policy.Unspecified, errNoUpgrade)
		return Reply
	}
	d.stripOwn(x)
	if !x.site.HTTP.Envoy { // manage has done it
		x.req.Del(forwardedCert) // any caller could claim any name: Envoy's default, SANITIZE
	}
	keys := &x.site.Keys
	if err := d.name(x, keys); err != nil {
		x.fail(quadnine.BadRequest, quadnine.Downstream, "tenant", policy.Unspecified, err)
		return Reply
	}
	if t := x.req.Get("grpc-timeout"); t != nil && !x.site.HTTP.Envoy { // there a route says whether it counts
		if d, ok := parseGRPCTimeout(t); ok {
			x.Deadline = x.start + d
		}
	}
	if tp := x.req.Get("traceparent"); tp != nil && telemetry.Sampled(tp) {
		d.trace(x, tp)
	}
	return Continue
}

// stripOwn removes the caller's x-quadnine- fields, keeping in mind the hop mark
// of a trusted one.
func (d decode) stripOwn(x *Exchange) {
	if !x.req.MayBegin(ownPrefix) {
		return
	}
	for i := range x.req.Len() {
		name := x.req.Name(i)
		if !bytes.HasPrefix(name, []byte(ownPrefix)) {
			continue
		}
		if string(name) == hopHeader && x.conn.trusted {
			x.hop = x.hop || string(x.req.Value(i)) == "1"
		} else {
			d.tel.Count(telemetry.HopHeadersStripped, 1)
		}
		x.req.DelAt(i)
	}
}

// name fills the key from the configured sources. The error says that a name is
// too long, or that a tenant is required and missing.
func (d decode) name(x *Exchange, keys *snapshot.Keys) error {
	t, m := find(x, keys.Tenant), find(x, keys.Metric)
	switch {
	case len(t) > maxName || len(m) > maxName:
		return errLongName
	case len(t) > 0:
		x.Key.Tenant = d.intern(t)
	case keys.RequireTenant:
		d.tel.Count(telemetry.RefusedNoTenant, 1)
		return errNoTenant(keys.Tenant)
	default:
		d.tel.Count(telemetry.WithoutTenant, 1)
		x.Key.Tenant = quadnine.OtherTenant
	}
	if len(m) > 0 {
		x.Key.Metric = d.intern(m)
	}
	return nil
}

func errNoTenant(sources []snapshot.KeySource) error {
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.String()
	}
	return errors.New("no tenant in " + strings.Join(names, ", ") + "; this listener requires one")
}

// find returns the first non-empty part that sources give.
func find(x *Exchange, sources []snapshot.KeySource) []byte {
	for i := range sources {
		if v := look(x, &sources[i]); len(v) > 0 {
			return v
		}
	}
	return nil
}

// look returns the part that s gives, which may be empty.
func look(x *Exchange, s *snapshot.KeySource) []byte {
	switch s.Kind {
	case snapshot.FromHeader:
		return x.req.Get(s.Name)
	case snapshot.FromQuery:
		return queryParam(x.query, s.Name)
	case snapshot.FromPathSegment:
		return segment(x.path, s.Index)
	case snapshot.FromGRPCMethod:
		if x.grpc {
			return bytes.TrimPrefix(x.path, []byte("/"))
		}
	}
	return nil
}

// queryParam returns the first value of name. A value with escapes is decoded;
// one that cannot be is taken as it stands.
func queryParam(query []byte, name string) []byte {
	for len(query) > 0 {
		end := bytes.IndexByte(query, '&')
		if end < 0 {
			end = len(query)
		}
		if n := len(name); n <= end && string(query[:n]) == name && (n == end || query[n] == '=') {
			v := query[min(n+1, end):end]
			if bytes.IndexByte(v, '%') >= 0 || bytes.IndexByte(v, '+') >= 0 {
				if s, err := url.QueryUnescape(string(v)); err == nil {
					return []byte(s)
				}
			}
			return v
		}
		query = query[min(end+1, len(query)):]
	}
	return nil
}

func segment(path []byte, n int) []byte {
	for path = bytes.TrimPrefix(path, []byte("/")); n > 0; n-- {
		i := bytes.IndexByte(path, '/')
		if i < 0 {
			return nil
		}
		path = path[i+1:]
	}
	s, _, _ := bytes.Cut(path, []byte("/"))
	return s
}

// parseGRPCTimeout reads a grpc-timeout value (gRPC over HTTP/2: up to eight
// digits and a unit) as nanoseconds.
func parseGRPCTimeout(b []byte) (int64, bool) {
	if len(b) < 2 || len(b) > 9 {
		return 0, false
	}
	var unit int64
	switch b[len(b)-1] {
	case 'H':
		unit = 3600e9
	case 'M':
		unit = 60e9
	case 'S':
		unit = 1e9
	case 'm':
		unit = 1e6
	case 'u':
		unit = 1e3
	case 'n':
		unit = 1
	}
	var n int64
	for _, c := range b[:len(b)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if unit == 0 || n > (1<<62)/unit {
		return 0, false
	}
	return n * unit, true
}

// trace starts a span for a sampled request and makes it the upstream's parent.
func (d decode) trace(x *Exchange, traceparent []byte) {
	tc, ok := telemetry.ParseTraceparent(traceparent)
	if !ok || d.server.tracer == nil {
		return
	}
	x.span = d.server.tracer.StartSpan(tc, string(x.req.Get(":method")), d.shard.Time(x.start))
	if x.span.Recording() {
		var buf [64]byte
		x.req.Set("traceparent", string(x.span.AppendTraceparent(buf[:0])))
	}
}
