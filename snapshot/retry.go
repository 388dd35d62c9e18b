package snapshot

import "time"

// Retry says after what a request is sent again. Names in comments are the fields
// of envoy.config.route.v3.RetryPolicy.
type Retry struct {
	On       RetryOn         // retry_on
	Statuses []int           // retriable_status_codes, for OnStatuses
	Headers  []HeaderMatcher // retriable_headers, for OnHeaders: one of them suffices
	Max      uint32          // num_retries: tries after the first
	PerTry   time.Duration   // per_try_timeout: from the sent request to its response's head; 0: none

	// Backoff is retry_back_off: before its n-th retry a request waits a random
	// time of less than Backoff·2ⁿ⁻¹, at most MaxBackoff. 0: it does not wait.
	Backoff, MaxBackoff time.Duration

	// Avoid is host_selection_retry_max_attempts where retry_host_predicate holds
	// previous_hosts: how often another endpoint is drawn when it was tried before.
	// 0: each retry goes where the next request would go.
	Avoid uint32

	// Buffer bounds the bytes of a request's body that are kept for another try;
	// of a longer one only tries that have sent nothing of it are repeated.
	Buffer int

	// Safe makes it the policy of flags: only what is idempotent (RFC 9110 section
	// 9.2.2) or was certainly not processed is sent again, to another endpoint if
	// there is one, and within a fifth of the cluster's requests.
	Safe bool
}

// RetryOn is a set of conditions.
type RetryOn uint32

// The conditions. Names in comments are those of retry_on.
const (
	OnConnectFailure     RetryOn = 1 << iota // connect-failure: no connection could be made
	OnRefused                                // refused-stream: REFUSED_STREAM, or a GOAWAY that leaves the stream out
	OnReset                                  // reset: no response's head came, whatever the reason
	OnResetBeforeRequest                     // reset-before-request: and nothing of the request was sent
	On5xx                                    // 5xx: such a status, or no response at all
	OnGatewayError                           // gateway-error: 502, 503, 504, or no response at all
	On4xx                                    // retriable-4xx: 409
	OnStatuses                               // retriable-status-codes
	OnHeaders                                // retriable-headers
	OnRateLimited                            // envoy-ratelimited: x-envoy-ratelimited is set
	OnCancelled                              // the gRPC status 1 in the response's head, likewise below
	OnDeadlineExceeded                       // deadline-exceeded
	OnInternal                               // internal
	OnResourceExhausted                      // resource-exhausted
	OnUnavailable                            // unavailable
)

// OnGRPC are the conditions on a gRPC status.
const OnGRPC = OnCancelled | OnDeadlineExceeded | OnInternal | OnResourceExhausted | OnUnavailable

// retryConditions are the names that retry_on may hold.
var retryConditions = map[string]RetryOn{
	"connect-failure":        OnConnectFailure,
	"refused-stream":         OnRefused,
	"reset":                  OnReset,
	"reset-before-request":   OnResetBeforeRequest,
	"5xx":                    On5xx,
	"gateway-error":          OnGatewayError,
	"retriable-4xx":          On4xx,
	"retriable-status-codes": OnStatuses,
	"retriable-headers":      OnHeaders,
	"envoy-ratelimited":      OnRateLimited,
	"cancelled":              OnCancelled, //nolint:misspell // as gRPC spells it
	"deadline-exceeded":      OnDeadlineExceeded,
	"internal":               OnInternal,
	"resource-exhausted":     OnResourceExhausted,
	"unavailable":            OnUnavailable,
}

// ParseRetryOn returns the condition called name, false when there is none.
func ParseRetryOn(name string) (RetryOn, bool) {
	on, ok := retryConditions[name]
	return on, ok
}

// FlagRetry returns the policy of flags: one more try where that is safe, with
// bodies of up to buffer bytes.
func FlagRetry(buffer int) *Retry {
	return &Retry{On: OnConnectFailure | OnRefused | OnReset, Max: 1, Buffer: buffer, Safe: true}
}
