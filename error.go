package quadnine

import (
	"errors"
	"strings"
)

// Code is what went wrong, in the coarse terms that decide a status.
type Code uint8

// The codes, with the HTTP status that each becomes.
const (
	Internal      Code = iota // 500: a defect of ours
	BadRequest                // 400
	TooLarge                  // 431 (header) or 413 (body)
	NotFound                  // 404
	Timeout                   // 504 from an upstream, 408 from a caller
	Unavailable               // 503
	BadGateway                // 502: the upstream's answer is unusable
	Canceled                  // no status: the caller is gone
	Unsupported               // 501
	BodyTooLarge              // 413
	Unprocessable             // 422: understood, and nothing can be computed from what it is about
)

var codeNames = [...]string{
	Internal: "internal", BadRequest: "bad-request", TooLarge: "header-too-large", NotFound: "not-found",
	Timeout: "timeout", Unavailable: "unavailable", BadGateway: "bad-gateway", Canceled: "canceled",
	Unsupported: "unsupported", BodyTooLarge: "body-too-large", Unprocessable: "unprocessable",
}

// String returns the code as it stands in headers, metrics and logs.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

// Status returns the HTTP status for c when origin is to blame.
func (c Code) Status(origin Origin) int {
	switch c {
	case BadRequest:
		return 400
	case TooLarge:
		return 431
	case BodyTooLarge:
		return 413
	case Unprocessable:
		return 422
	case NotFound:
		return 404
	case Timeout:
		if origin == Downstream {
			return 408
		}
		return 504
	case Unavailable:
		return 503
	case BadGateway:
		return 502
	case Unsupported:
		return 501
	default:
		return 500
	}
}

// Origin is whose fault an error is. Only Upstream errors count against a
// breaker.
type Origin uint8

// The origins.
const (
	Local      Origin = iota // this process
	Downstream               // the caller
	Upstream                 // the service behind the sidecar
)

// String returns the origin as it stands in metrics and logs.
func (o Origin) String() string {
	switch o {
	case Downstream:
		return "downstream"
	case Upstream:
		return "upstream"
	default:
		return "local"
	}
}

// Error is the one error that crosses the pipeline. Rescue turns it into a
// reply; nothing else does.
type Error struct {
	Code      Code
	Origin    Origin
	Retryable bool   // nothing of the request reached the upstream
	Op        string // what was being done: "dial", "head", "decode"
	Reason    string // short and stable: goes into x-quadnine-degraded and metrics; Code's name when empty
	Key       Key    // zero before decoding
	Err       error  // cause; may be nil
}

// Why returns the short stable reason.
func (e *Error) Why() string {
	if e.Reason != "" {
		return e.Reason
	}
	return e.Code.String()
}

// Error returns "origin op: cause (key)", leaving out what is empty.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Origin.String())
	if e.Op != "" {
		b.WriteByte(' ')
		b.WriteString(e.Op)
	}
	b.WriteString(": ")
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(e.Why())
	}
	if e.Key != (Key{}) {
		b.WriteString(" (")
		b.WriteString(e.Key.String())
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns err's code, or Internal when err is not an *Error.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
