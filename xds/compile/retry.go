package compile

import (
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// Envoy's defaults of retries.
const (
	numRetries    = 1
	retryBase     = 25 * time.Millisecond
	retryGrowth   = 10 // max_interval, in base intervals
	hostAttempts  = 1
	budgetPercent = 20
	budgetRetries = 3
)

// retry compiles a retry policy; nil where there is none.
func (r *review) retry(m *routev3.RetryPolicy, p *at) *snapshot.Retry {
	if m == nil {
		return nil
	}
	out := &snapshot.Retry{
		On:      r.retryOn(m.GetRetryOn(), p.f("retry_on")),
		Headers: r.headers(m.GetRetriableHeaders(), p, "retriable_headers"),
		Max:     numRetries,
		PerTry:  r.duration(m.GetPerTryTimeout(), p.f("per_try_timeout"), 0),
	}
	if n := m.GetNumRetries(); n != nil {
		out.Max = n.GetValue()
	}
	for _, s := range m.GetRetriableStatusCodes() {
		out.Statuses = append(out.Statuses, int(s))
	}
	out.Backoff, out.MaxBackoff = r.backOff(m.GetRetryBackOff(), p.f("retry_back_off"))
	for i, h := range m.GetRetryHostPredicate() {
		if !r.hostPredicate(h, p.i("retry_host_predicate", i)) {
			continue
		}
		out.Avoid = hostAttempts
		if n := m.GetHostSelectionRetryMaxAttempts(); n > 0 {
			out.Avoid = uint32(min(n, maxHostAttempts))
		}
	}
	if m.GetHostSelectionRetryMaxAttempts() != 0 && out.Avoid == 0 {
		r.ignore(p.f("host_selection_retry_max_attempts"), "", "no retry_host_predicate rejects a host")
	}
	return out
}

// maxHostAttempts is more than any cluster needs to be drawn from.
const maxHostAttempts = 1 << 10

// retryOn compiles the list of conditions.
func (r *review) retryOn(list string, p *at) (on snapshot.RetryOn) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		one, ok := snapshot.ParseRetryOn(name)
		switch {
		case ok:
			on |= one
		case name == "http3-post-connect-failure":
			r.ignore(p, name, "no endpoint speaks HTTP/3")
		default: // Envoy passes over it
			r.refuse(p, clip(name, 80), "leave it out: there is no such condition")
		}
	}
	return on
}

// backOff compiles how long a request waits before it is sent again.
func (r *review) backOff(m *routev3.RetryPolicy_RetryBackOff, p *at) (base, most time.Duration) {
	if m == nil {
		return retryBase, retryBase * retryGrowth
	}
	base = max(r.duration(m.GetBaseInterval(), p.f("base_interval"), retryBase), time.Millisecond)
	most = r.duration(m.GetMaxInterval(), p.f("max_interval"), min(base, forever/retryGrowth)*retryGrowth)
	if m.GetMaxInterval() != nil {
		most = max(most, time.Millisecond)
		if most < base {
			r.fail(p.f("max_interval"), "", "retry_policy.max_interval must greater than or equal to the base_interval")
		}
	}
	return base, most
}

// hostPredicate reports whether m has hosts left out that were tried.
func (r *review) hostPredicate(m *routev3.RetryPolicy_RetryHostPredicate, p *at) bool {
	x, ok := r.open(m.GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return false
	}
	if x.name != "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" {
		r.refuse(p, nameOf(m.GetName(), x), "use envoy.retry_host_predicates.previous_hosts")
		return false
	}
	return r.into(x, new(previousv3.PreviousHostsPredicate), p.f("typed_config"))
}

// retryBudget compiles thresholds' retry_budget.
func retryBudget(to *snapshot.Thresholds, m *clusterv3.CircuitBreakers_Thresholds_RetryBudget) {
	if m == nil {
		return
	}
	to.HasRetryBudget, to.RetryPercent, to.MinRetries = true, budgetPercent, budgetRetries
	if v := m.GetBudgetPercent(); v != nil {
		to.RetryPercent = v.GetValue()
	}
	if v := m.GetMinRetryConcurrency(); v != nil {
		to.MinRetries = v.GetValue()
	}
}
