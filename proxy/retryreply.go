package proxy

import (
	"bytes"
	"slices"
	"time"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// unwanted reports whether p does not take the response's head for an answer, as
// Envoy's RetryStateImpl::wouldRetryFromHeaders.
func (x *Exchange) unwanted(p *snapshot.Retry) bool {
	if x.resp.Has("x-envoy-ratelimited") {
		return p.On&snapshot.OnRateLimited != 0
	}
	switch {
	case p.On&snapshot.On5xx != 0 && x.status >= 500,
		p.On&snapshot.OnGatewayError != 0 && x.status >= 502 && x.status <= 504,
		p.On&snapshot.On4xx != 0 && x.status == 409,
		p.On&snapshot.OnStatuses != 0 && slices.Contains(p.Statuses, x.status):
		return true
	case p.On&snapshot.OnHeaders != 0:
		for i := range p.Headers {
			if p.Headers[i].Holds(&x.resp) {
				return true
			}
		}
	}
	return p.On&snapshot.OnGRPC != 0 && p.On&retryGRPC(x.resp.Get("grpc-status")) != 0
}

// retryGRPC is the condition that a gRPC status is.
func retryGRPC(status []byte) snapshot.RetryOn {
	switch string(status) {
	case "1":
		return snapshot.OnCancelled
	case "4":
		return snapshot.OnDeadlineExceeded
	case "8":
		return snapshot.OnResourceExhausted
	case "13":
		return snapshot.OnInternal
	case "14":
		return snapshot.OnUnavailable
	default:
		return 0
	}
}

// replied looks at the response's head before anything else does, and reports
// whether the request is sent again instead.
func (x *Exchange) replied() bool {
	if p := x.retryPolicy(); p != nil && !p.Safe && x.unwanted(p) && x.sendAgain(tryEnd{why: triedStatus}) {
		return true
	}
	x.endRetry()
	if x.retry.again && policy.Qualify(x.status) == policy.Success {
		x.loop.tel.Count(telemetry.RetriesSucceeded, 1)
	}
	return false
}

// awaitsBody reports whether the response's head waits for the first bytes of its
// body, so that the request can still be sent again when its endpoint dies between
// the two: of a short body (less than 100,000 bytes) that is on its way, and where
// another endpoint can answer.
func (x *Exchange) awaitsBody() bool {
	if p := x.retryPolicy(); p == nil || !p.Safe || x.holding || x.sentBody || x.grpc || len(x.cluster.Endpoints()) < 2 {
		return false
	}
	length := x.resp.Get("content-length")
	return len(length) > 0 && len(length) <= 5 && length[0] != '0' && (x.method.idempotent() || x.collected)
}

// tellAttempt has the request say which try it is, as Envoy does.
func (x *Exchange) tellAttempt(t tryEnd) {
	if x.host.AttemptCount {
		x.req.Del("x-envoy-attempt-count")
		x.req.AddInt("x-envoy-attempt-count", x.attempts())
	}
	if x.host.TimeoutRetry {
		v := "false"
		if t.why == triedTimeout {
			v = "true"
		}
		x.req.Set("x-envoy-is-timeout-retry", v)
	}
	if x.Route.Forward.Host.Auto && x.authority != nil {
		x.req.SetValue(":authority", bytes.Clone(x.authority)) // the next endpoint's name takes its place
	}
	x.tellTimeout()
}

// tellTimeout has the request say how long its response may take: what the try
// may, and what is left of the route's time-out.
func (x *Exchange) tellTimeout() {
	expected := x.perTry()
	if left := x.timeout; left > 0 {
		if x.retry.count > 0 && x.reqEnded {
			left = max(left-time.Duration(x.loop.shard.Now()-x.timedFrom), time.Millisecond)
		}
		if expected <= 0 || left < expected {
			expected = left
		}
	}
	if expected <= 0 {
		return
	}
	if !x.site.HTTP.SuppressEnvoy {
		x.req.Del("x-envoy-expected-rq-timeout-ms")
		x.loop.timeouts.add(&x.req, int64(expected/time.Millisecond))
	}
	if x.Route.Forward.HasMaxGRPC && x.grpc {
		x.loop.scratch = appendGRPCTimeout(x.loop.scratch[:0], expected)
		x.req.SetValue("grpc-timeout", x.loop.scratch)
	}
}

// perTry is how long a try may take; 0: as long as the route's time-out lets it.
func (x *Exchange) perTry() time.Duration {
	p := x.retryPolicy()
	switch {
	case p == nil:
		return 0
	case x.retry.perTry > 0:
		return x.retry.perTry
	default:
		return p.PerTry
	}
}
