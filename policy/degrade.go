package policy

import (
	"strconv"
	"time"

	"github.com/quadnine/quadnine"
)

// Step is one way to answer a request whose upstream did not, in the order in
// which they are tried.
type Step uint8

// The steps.
const (
	Peer     Step = iota // another healthy host answers
	Stale                // a stored answer
	Previous             // the model's version before the one that could not answer
	Explain              // an error that says why
)

var stepNames = [...]string{"peer", "stale", "previous", "none"}

// String returns the step as it stands in x-quadnine-degraded: Explain is
// "none", because nothing replaced the answer.
func (s Step) String() string { return name(stepNames[:], int(s)) }

// Possible says which steps a request has left. Clear what was tried.
type Possible struct {
	Peer  bool // a peer is configured, healthy and not yet tried
	Hop   bool // the request came from a peer (x-quadnine-hop): it is never sent to another
	Fresh bool // the request can be sent again: safe or idempotent, and its content is still at hand
	Stale bool // a stored answer that is not too old exists
	// Previous: the version failed at what is at hand, and another one may not.
	Previous bool
}

// Next returns what to do with a request that err ended: Peer, then Stale, then
// Previous, then Explain. After an evaluation that was not finite Previous comes
// first: its inputs are fresh, and right here. A caller's mistake, or its going
// away, is only ever explained.
func Next(p Possible, err *quadnine.Error) Step {
	if !Degradable(err) {
		return Explain
	}
	if p.Previous && ReasonOf(err) == ModelNotFinite {
		return Previous
	}
	if p.Peer && !p.Hop && (p.Fresh || err.Retryable) {
		return Peer
	}
	if p.Stale {
		return Stale
	}
	if p.Previous {
		return Previous
	}
	return Explain
}

// Degradable reports whether err is one that another answer can make good:
// the upstream's fault, or this process declining to ask it.
func Degradable(err *quadnine.Error) bool {
	if err == nil || err.Code == quadnine.Canceled || err.Origin == quadnine.Downstream {
		return false
	}
	if err.Origin == quadnine.Upstream {
		return true
	}
	return err.Code == quadnine.Unavailable || err.Code == quadnine.Timeout
}

// Qualify returns what an upstream's final status says about the upstream. From
// 500 on it is a Failure, except 501 and 505, which speak of the request; 400,
// 404, 429 and the rest are answers of a service that works.
func Qualify(status int) Outcome {
	if status >= 500 && status != 501 && status != 505 {
		return Failure
	}
	return Success
}

// QualifyError returns what err says about the upstream: only the upstream's
// own faults count.
func QualifyError(err *quadnine.Error) Outcome {
	if err == nil {
		return Success
	}
	if err.Origin != quadnine.Upstream || err.Code == quadnine.Canceled {
		return Neutral
	}
	return Failure
}

// AppendDegraded appends the value of x-quadnine-degraded, for example
// "stale; reason=breaker-open; age=12". A negative age is left out.
func AppendDegraded(dst []byte, s Step, why Reason, age time.Duration) []byte {
	dst = append(dst, s.String()...)
	dst = append(dst, "; reason="...)
	dst = append(dst, why.String()...)
	if age >= 0 {
		dst = append(dst, "; age="...)
		dst = strconv.AppendInt(dst, int64(age/time.Second), 10)
	}
	return dst
}

// CacheStatus is one member of a Cache-Status field (RFC 9211 section 2).
type CacheStatus struct {
	Hit       bool
	TTL       time.Duration // of a hit: what is left; negative when past
	Forward   string        // of a miss: why the request went on: "uri-miss", "bypass", "stale", ...
	FwdStatus int           // of a miss: the upstream's status; 0 when there was none
	Stored    bool          // of a miss: the answer was stored
	Detail    string        // a token; empty leaves it out
}

// AppendCacheStatus appends the value of Cache-Status, for example
// "quadnine; hit; ttl=48; detail=degraded".
func AppendCacheStatus(dst []byte, s CacheStatus) []byte {
	dst = append(dst, "quadnine"...)
	if s.Hit {
		dst = append(dst, "; hit; ttl="...)
		dst = strconv.AppendInt(dst, floorSeconds(s.TTL), 10)
	} else {
		if s.Forward != "" {
			dst = append(dst, "; fwd="...)
			dst = append(dst, s.Forward...)
		}
		if s.FwdStatus != 0 {
			dst = append(dst, "; fwd-status="...)
			dst = strconv.AppendInt(dst, int64(s.FwdStatus), 10)
		}
		if s.Stored {
			dst = append(dst, "; stored"...)
		}
	}
	if s.Detail != "" {
		dst = append(dst, "; detail="...)
		dst = append(dst, s.Detail...)
	}
	return dst
}

func floorSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// RetryAfterSeconds returns d as a Retry-After value (RFC 9110 section
// 10.2.3): whole seconds, rounded up, at least 1.
func RetryAfterSeconds(d time.Duration) int {
	return int(max(1, (min(d, maxDuration)+time.Second-1)/time.Second))
}
