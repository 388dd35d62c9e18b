package proxy

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
)

// dispatch finds the cluster that the route names and makes the request what
// that cluster is to see. It reports false, with an error, when there is none.
func (x *Exchange) dispatch() bool {
	f := x.Route.Forward
	name := x.destination(f)
	x.cluster = x.site.cluster(name)
	if x.cluster == nil {
		p := errPlainNoCluster[f.NotFoundStatus]
		if p == nil {
			p = errPlainNoCluster[503]
		}
		x.fail(quadnine.Unavailable, quadnine.Local, "route", policy.Unspecified, p)
		return false
	}
	x.clusterName = name
	x.dispatched = true
	if x.site.HTTP.Envoy && x.input == nil {
		x.finalize(f)
		x.rearm() // the route's time-out runs
	} else {
		x.timeout = f.Timeout
	}
	return true
}

// destination is the name of the cluster that the route sends the request to.
func (x *Exchange) destination(f *snapshot.Forward) string {
	switch {
	case x.weighted != nil && x.weighted.ClusterHeader != "":
		return x.loop.intern(x.req.Get(x.weighted.ClusterHeader))
	case x.weighted != nil:
		return x.weighted.Name
	case f.ClusterHeader != "":
		return x.loop.intern(x.req.Get(f.ClusterHeader))
	default:
		return f.Cluster
	}
}

// finalize changes the request as its route says, in Envoy's order: time-out,
// header mutations, authority, path.
func (x *Exchange) finalize(f *snapshot.Forward) {
	x.timeout = x.routeTimeout(f)
	x.tellTimeout()
	if x.host.AttemptCount {
		x.req.Del("x-envoy-attempt-count")
		x.req.AddInt("x-envoy-attempt-count", 1)
	}
	x.mutateRequest()
	x.rewriteHost(f)
	x.rewritePath(f)
}

// routeTimeout is the route's time-out, or the one that an internal caller asks
// for.
func (x *Exchange) routeTimeout(f *snapshot.Forward) time.Duration {
	d := f.Timeout
	if f.HasMaxGRPC && x.grpc {
		d = x.grpcTimeout(f.MaxGRPC)
	}
	if !x.internal {
		return d
	}
	if v, ok := milliseconds(x.req.Get("x-envoy-upstream-rq-timeout-ms")); ok {
		d = v
	}
	v, ok := milliseconds(x.req.Get("x-envoy-upstream-rq-per-try-timeout-ms"))
	switch {
	case !ok:
	case x.retryPolicy() != nil:
		x.retry.perTry = v
	case v > 0 && (d == 0 || v < d): // the first try is the whole
		d = v
	}
	x.altTimeout = x.req.Has("x-envoy-upstream-rq-timeout-alt-response")
	for _, name := range [...]string{
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response",
		"x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-hedge-on-per-try-timeout",
		"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-upstream-alt-stat-name",
	} {
		x.req.Del(name)
	}
	return d
}

func milliseconds(b []byte) (time.Duration, bool) {
	if len(b) == 0 || len(b) > 12 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b), 10, 63)
	if err != nil || n > math.MaxInt64/uint64(time.Millisecond) {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

// rewriteHost replaces the authority. The endpoint's own name follows when the
// endpoint is known.
func (x *Exchange) rewriteHost(f *snapshot.Forward) {
	l := x.loop
	switch {
	case x.weighted != nil && x.weighted.Host != "": // Envoy keeps nothing of the old one
		if x.authority == nil {
			x.authority = x.req.Get(":authority")
		}
		x.req.Set(":authority", x.weighted.Host)
		return
	case f.Host.Literal != "":
		l.scratch = append(l.scratch[:0], f.Host.Literal...)
	case f.Host.Header != "":
		v := x.req.Get(f.Host.Header)
		if len(v) == 0 {
			return
		}
		l.scratch = append(l.scratch[:0], v...)
	case f.Host.Path != nil:
		path, _, _ := bytes.Cut(x.req.Get(":path"), []byte("?"))
		l.scratch = f.Host.Path.Apply(l.scratch[:0], path)
	default:
		return
	}
	x.setHost(l.scratch, f.AppendXFH)
}

// setHost makes host the authority and keeps the caller's in
// x-envoy-original-host.
func (x *Exchange) setHost(host []byte, appendXFH bool) {
	old := x.req.Get(":authority")
	if x.authority == nil {
		x.authority = old
	}
	if appendXFH && len(old) > 0 {
		have := x.req.Get("x-forwarded-host")
		last := have[bytes.LastIndexByte(have, ',')+1:]
		if !bytes.Equal(bytes.TrimSpace(last), old) {
			x.appendValue(&x.req, "x-forwarded-host", old)
		}
	}
	if len(old) > 0 && !x.site.HTTP.SuppressEnvoy {
		x.req.SetValue("x-envoy-original-host", old)
	}
	x.req.SetValue(":authority", host)
}

// rewritePath replaces the part of the path that the route matched, or what its
// pattern finds; the query stays.
func (x *Exchange) rewritePath(f *snapshot.Forward) {
	if f.PrefixRewrite == "" && f.RegexRewrite == nil {
		return
	}
	l := x.loop
	target := x.req.Get(":path")
	l.scratch = appendRewritten(l.scratch[:0], target, &x.Route.Match, f.PrefixRewrite, f.RegexRewrite)
	if x.target == nil {
		x.target = target
	}
	if !x.site.HTTP.SuppressEnvoy {
		x.req.SetValue("x-envoy-original-path", target)
	}
	x.req.SetValue(":path", l.scratch)
}

// appendRewritten appends target as a prefix or a pattern rewrites it.
func appendRewritten(dst, target []byte, m *snapshot.RouteMatch, prefix string, regex *snapshot.RegexRewrite) []byte {
	path, query := target, []byte(nil)
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if regex != nil {
		return append(regex.Apply(dst, path), query...)
	}
	matched := len(m.Path)
	if m.Kind == snapshot.PathRegex {
		matched = len(path)
	}
	dst = append(dst, prefix...)
	return append(append(dst, path[min(matched, len(path)):]...), query...)
}

// restore gives the request back what a peer has to see: it rewrites for itself.
func (x *Exchange) restore() {
	if x.target != nil {
		x.req.SetValue(":path", x.target)
		x.req.Del("x-envoy-original-path")
	}
	if x.authority != nil {
		x.req.SetValue(":authority", x.authority)
		x.req.Del("x-envoy-original-host")
	}
}
