package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/upstream"
)

// plain is a reply of our own making on a listener of a management server: the
// status and the text that Envoy has for the same thing. It is an error, so that
// it travels like one until rescue has had its say.
type plain struct {
	status     int
	text       string // the body; "" has none
	flags      flags
	details    string // RESPONSE_CODE_DETAILS
	transport  string // UPSTREAM_TRANSPORT_FAILURE_REASON
	overloaded bool   // x-envoy-overloaded is set
	closes     bool   // the caller's HTTP/1.1 connection ends with it
	manager    bool   // the connection manager's, which knows of no attempts
}

// Error says what went wrong.
func (p *plain) Error() string {
	if p.text != "" {
		return p.text
	}
	return p.details
}

const (
	beforeHeaders  = "upstream connect error or disconnect/reset before headers. reset reason: "
	beforeResponse = "upstream_reset_before_response_started"
)

// The replies, with Envoy 1.40's texts.
var (
	errPlainNoRoute     = &plain{status: 404, flags: noRouteFound, details: "route_not_found"}
	errPlainNoPath      = &plain{status: 404, details: "absolute_path_rejected"}
	errPlainBadPath     = &plain{status: 400, details: "path_normalization_failed"}
	errPlainUnderscore  = &plain{status: 400, text: "Bad Request", details: "unexpected_underscore", closes: true, manager: true}
	errPlainUpgrade     = &plain{status: 403, details: "upgrade_failed", closes: true}
	errPlainNoTunnel    = &plain{status: 501, text: "the upstream speaks HTTP/2 and offers no extended CONNECT (RFC 8441), by which an upgrade is passed on", details: "upgrade_over_http2", closes: true}
	errPlainTooLarge    = &plain{status: 431, text: "Request Header Fields Too Large", flags: downstreamProtocolError, details: "headers_too_large"}
	errPlainNoHealthy   = &plain{status: 503, text: "no healthy upstream", flags: noHealthyUpstream, details: "no_healthy_upstream"}
	errPlainOverflow    = &plain{status: 503, text: beforeHeaders + "overflow", flags: upstreamOverflow, details: beforeResponse + "{overflow}", overloaded: true}
	errPlainOverloaded  = &plain{status: 503, text: "envoy overloaded", flags: overloadManager, details: "overload", manager: true}
	errPlainRouteTime   = &plain{status: 504, text: "upstream request timeout", flags: upstreamTimeout, details: "response_timeout"}
	errPlainTryTime     = &plain{status: 504, text: "upstream request timeout", flags: upstreamTimeout, details: "upstream_per_try_timeout"}
	errPlainAltTime     = &plain{status: 204, flags: upstreamTimeout, details: "response_timeout"}
	errPlainIdleCaller  = &plain{status: 408, text: "stream timeout", flags: streamIdleTimeout, details: "stream_idle_timeout", manager: true, closes: true}
	errPlainIdle        = &plain{status: 504, text: "stream timeout", flags: streamIdleTimeout, details: "stream_idle_timeout", manager: true}
	errPlainRequestTime = &plain{status: 408, text: "request timeout", details: "request_overall_timeout", manager: true, closes: true}
	errPlainDialTime    = &plain{status: 503, text: beforeHeaders + "connection timeout", flags: upstreamConnectionFailure, details: beforeResponse + "{connection_timeout}"}
	errPlainDown        = &plain{status: 503, text: beforeHeaders + "remote connection failure", flags: upstreamConnectionFailure, details: beforeResponse + "{remote_connection_failure}"}
	errPlainConnEnd     = &plain{status: 503, text: beforeHeaders + "connection termination", flags: upstreamConnectionEnd, details: beforeResponse + "{connection_termination}"}
	errPlainReset       = &plain{status: 503, text: beforeHeaders + "remote reset", flags: upstreamRemoteReset, details: beforeResponse + "{remote_reset}"}
	errPlainRefused     = &plain{status: 503, text: beforeHeaders + "remote refused stream reset", flags: upstreamRemoteReset, details: beforeResponse + "{remote_refused_stream_reset}"}
	errPlainProtocol    = &plain{status: 502, text: beforeHeaders + "protocol error", flags: upstreamProtocolError, details: beforeResponse + "{protocol_error}"}
	errPlainLocalReset  = &plain{status: 503, text: beforeHeaders + "local reset", flags: localReset, details: beforeResponse + "{local_reset}"}

	errPlainNoCluster = map[int]*plain{
		404: {status: 404, flags: noClusterFound, details: "cluster_not_found"},
		500: {status: 500, flags: noClusterFound, details: "cluster_not_found"},
		503: {status: 503, flags: noClusterFound, details: "cluster_not_found"},
	}
)

// plainDial is the reply to a failed dial.
func plainDial(err error) *plain {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return errPlainDialTime
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return errPlainDialTime
	}
	why := "delayed_connect_error:_Connection_refused"
	if no, ok := errors.AsType[syscall.Errno](err); ok && no != syscall.ECONNREFUSED {
		why = "delayed_connect_error:_" + underscored(no.Error())
	}
	return &plain{
		status: 503, text: beforeHeaders + "remote connection failure", flags: upstreamConnectionFailure,
		details: beforeResponse + "{remote_connection_failure|" + why + "}", transport: why,
	}
}

// underscored is how values without spaces are written: "No_route_to_host".
func underscored(s string) string {
	s = strings.ReplaceAll(s, " ", "_")
	if s != "" && 'a' <= s[0] && s[0] <= 'z' {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// plainFailure is the reply to a stream that broke before its response's head.
func plainFailure(f upstream.Failure) *plain {
	switch {
	case f.Code == codeProtocol:
		return errPlainProtocol
	case f.ConnLost:
		return errPlainConnEnd
	case f.Unprocessed:
		return errPlainRefused
	case f.Remote:
		return errPlainReset
	default:
		return errPlainLocalReset
	}
}

// plainOf finds the reply for err, which another part of the pipeline named in
// its own words. Without one that Envoy has, it is our own.
func (x *Exchange) plainOf(err *quadnine.Error) *plain {
	if p, ok := errors.AsType[*plain](err.Err); ok {
		return p
	}
	if policy.ReasonOf(err) == policy.ClusterOpen { // it is open because dials failed
		return errPlainDown
	}
	p := &plain{status: err.Code.Status(err.Origin), text: "quadnine: " + oneLine(x.says(err)), details: "quadnine_" + strings.ReplaceAll(err.Why(), "-", "_")}
	switch policy.ReasonOf(err) {
	case policy.BreakerOpen, policy.Overload:
		p.flags = upstreamOverflow
	}
	return p
}

// sayPlainly makes p the reply, as explain does for listeners from flags. extra
// is the name and value of one more field, "" for none.
func (x *Exchange) sayPlainly(p *plain, reason, extraName, extra string) {
	x.isLocal, x.status, x.details = true, p.status, p.details
	x.flags |= p.flags
	if p.transport != "" {
		x.transport = p.transport
	}
	if (p.status == 400 || p.closes) && !x.conn.h2 && x.conn.engine != nil {
		x.conn.engine.Shutdown(false) // what else comes on this connection is not to be trusted
	}
	x.resp.Reset()
	grpc := x.grpc && p.status != 204
	if grpc {
		x.status = 200
		x.resp.Add(":status", "200")
	} else {
		x.resp.AddInt(":status", int64(p.status))
	}
	if extraName != "" {
		x.resp.Add(extraName, extra)
	}
	if p.overloaded && !x.site.HTTP.SuppressEnvoy {
		x.resp.Add("x-envoy-overloaded", "true")
	}
	x.mutateResponse()
	if p.manager {
		x.resp.Del("x-envoy-attempt-count")
	}
	if reason != "" {
		x.resp.Add("x-quadnine-reason", reason)
	}
	x.local = append(x.local[:0], p.text...)
	switch {
	case grpc:
		x.resp.Set("content-type", "application/grpc")
		x.resp.AddInt("grpc-status", grpcStatusOf(p.status))
		if len(x.local) > 0 {
			x.resp.Add("grpc-message", grpcMessage(x.local))
		}
		x.local = x.local[:0]
	case len(x.local) > 0:
		x.resp.Del("content-length")
		x.resp.AddInt("content-length", int64(len(x.local)))
		if !x.resp.Has("content-type") {
			x.resp.Add("content-type", "text/plain")
		}
	}
	x.reply = x.local
}

// grpcStatusOf maps a status to a gRPC code (gRPC's http-grpc-status-mapping).
func grpcStatusOf(status int) int64 {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	default:
		return 2 // UNKNOWN
	}
}

// plainly is the reply for err, for which no stream can be had.
func (x *Exchange) plainly(err error) error {
	switch {
	case errors.Is(err, upstream.ErrOpen), errors.Is(err, upstream.ErrNoUpgrade):
		return err // the cluster's breaker is ours: the text says more
	case errors.Is(err, upstream.ErrOverflow):
		return errPlainOverflow
	case errors.Is(err, upstream.ErrNone) && x.dialFailed == nil:
		return errPlainNoHealthy
	case x.dialFailed != nil:
		return plainDial(x.dialFailed)
	default:
		return plainDial(err)
	}
}
