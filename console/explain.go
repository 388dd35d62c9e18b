package console

import (
	"fmt"
	"io"
	"net/http"

	"github.com/quadnine/quadnine"
)

func (v *Views) explain(w http.ResponseWriter, r *http.Request) {
	f, ok := formatOf(w, r, asText, asJSON)
	if !ok {
		return
	}
	q := r.URL.Query()
	key := quadnine.Key{Tenant: q.Get("tenant"), Metric: q.Get("metric")}
	if key.Tenant == "" {
		fail(w, http.StatusBadRequest, "console: /explain: the parameter tenant is missing: ask for /explain?tenant=TENANT&metric=METRIC (%s stands for requests without a tenant)",
			quadnine.OtherTenant)
		return
	}
	e := v.Explain(key)
	e.Tenant, e.Metric = key.Tenant, key.Metric
	e.Steps = append([]Step{}, e.Steps...) // an array in JSON, also when empty
	if f == asJSON {
		writeJSON(w, e)
		return
	}
	e.write(text(w, http.StatusOK))
}

// write draws the decision as a tree: one branch a stage, its reason below it.
func (e *Explanation) write(w io.Writer) {
	_, _ = fmt.Fprintf(w, "tenant %s, metric %s\n", printable(e.Tenant), orNone(printable(e.Metric)))
	for _, s := range e.Steps {
		branch(w, "├─", "│ ", s)
	}
	branch(w, "└─", "  ", Step{Stage: "verdict", Says: e.Verdict, Because: e.Because})
}

func branch(w io.Writer, fork, stem string, s Step) {
	const indent = 10 // "endpoints" is the longest stage's name
	_, _ = fmt.Fprintf(w, "%s %-*s %s\n", fork, indent, s.Stage, printable(s.Says))
	if s.Because != "" {
		_, _ = fmt.Fprintf(w, "%s %-*s because %s\n", stem, indent, "", printable(s.Because))
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
