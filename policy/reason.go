package policy

import "github.com/quadnine/quadnine"

// Reason is why a request was degraded or counted as a failure: short, stable,
// the same in x-quadnine-degraded, in metrics and on admin pages.
type Reason uint8

// The reasons.
const (
	Unspecified      Reason = iota
	BreakerOpen             // the key's breaker, or its tenant's
	ClusterOpen             // the cluster's breaker
	Upstream5xx             // a status that Qualify calls a failure
	UpstreamTimeout         // no answer in time
	ConnectFailed           // no connection could be made
	UpstreamReset           // the stream or connection was torn down
	UpstreamRefused         // the upstream asked not to be sent the request (REFUSED_STREAM, GOAWAY)
	UpstreamProtocol        // the answer broke the protocol
	BodyTruncated           // the answer ended early
	NoEndpoint              // no healthy host is known
	Overload                // this process has no room for the request
	KeyDecayed              // an idle open key became one failure of its tenant
	ModelNotFinite          // the version computed NaN or an infinity
	ModelMissing            // no version of the model can answer
	BadInput                // what a version computes from is not a number
	InputRefused            // what a version computes from is not what it takes
	ModelFailed             // the version's evaluation failed: it trapped, took too long, or its file cannot be read
	numReasons
)

var reasonNames = [numReasons]string{
	"unspecified", "breaker-open", "cluster-open", "upstream-5xx", "upstream-timeout", "connect-failed",
	"upstream-reset", "upstream-refused", "upstream-protocol", "body-truncated", "no-endpoint", "overload",
	"key-decayed", "non-finite", "no-model", "bad-input",
	"input-refused", "model-failed",
}

// String returns the reason as it stands in headers, metrics and logs.
func (r Reason) String() string { return name(reasonNames[:], int(r)) }

// ParseReason returns the reason that is written s, or false.
func ParseReason(s string) (Reason, bool) {
	for i, n := range reasonNames {
		if n == s {
			return Reason(i), true
		}
	}
	return Unspecified, false
}

// ReasonOf returns the reason for err: the one it names, or else what its code
// implies.
func ReasonOf(err *quadnine.Error) Reason {
	if err == nil {
		return Unspecified
	}
	if r, ok := ParseReason(err.Reason); ok {
		return r
	}
	if err.Origin != quadnine.Upstream {
		return Unspecified
	}
	switch err.Code {
	case quadnine.Timeout:
		return UpstreamTimeout
	case quadnine.BadGateway:
		return UpstreamProtocol
	case quadnine.Unavailable:
		return ConnectFailed
	case quadnine.Internal:
		return Upstream5xx
	default:
		return Unspecified
	}
}
