package console

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
)

func (v *Views) breakers(w http.ResponseWriter, r *http.Request) {
	f, ok := formatOf(w, r, asText, asJSON, asLines)
	if !ok {
		return
	}
	q := r.URL.Query()
	switch q.Get("state") {
	case "", "closed", "half_open", "open":
	default:
		fail(w, http.StatusBadRequest, "console: state=%s: want one of closed, half_open, open", printable(q.Get("state")))
		return
	}
	stream(w, f, "breakers", matching(v.Breakers(), q), breakerLine)
}

// matching leaves those of all that have the tenant, metric and state that q
// names.
func matching(all iter.Seq[Breaker], q url.Values) iter.Seq[Breaker] {
	wants := func(name, value string) bool { return !q.Has(name) || q.Get(name) == value }
	return func(yield func(Breaker) bool) {
		for b := range all {
			if wants("tenant", b.Tenant) && wants("metric", b.Metric) && wants("state", b.State) && !yield(b) {
				return
			}
		}
	}
}

// breakerLine writes one row of a table that is never held as a whole, so its
// columns are wide enough for most, not for all.
func breakerLine(w io.Writer, b Breaker) {
	_, _ = fmt.Fprintf(w, "%-9s %-24s %-32s %d of %d failures in %s",
		b.State, printable(b.Tenant), printable(b.Metric), b.Failures, b.Threshold, b.Window)
	if b.RetryAfter > 0 {
		_, _ = fmt.Fprintf(w, ", probe in %s", b.RetryAfter)
	}
	if b.Reason != "" {
		_, _ = fmt.Fprintf(w, ", %s", printable(b.Reason))
	}
	_, _ = fmt.Fprintln(w)
}
