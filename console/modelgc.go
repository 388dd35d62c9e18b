package console

import (
	"context"
	"net/http"
	"strconv"
)

// gcPath has the store of models looked through for what nothing needs.
const gcPath = "/models/gc"

// Garbage is something in the store of models that nothing needs.
type Garbage struct {
	Path    string `json:"path"` // in the store
	Model   string `json:"model,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Bytes   int64  `json:"bytes"`
	Why     string `json:"why"`
}

// Collection is what Views.GC found.
type Collection struct {
	Garbage []Garbage `json:"garbage"` // removed, or only listed
	Removed bool      `json:"removed"`
	Used    int64     `json:"used"`            // bytes that the store's versions take
	Quota   int64     `json:"quota,omitempty"` // that they may take; 0: no bound
}

// Collector looks through the store of models and removes what nothing needs
// unless dryRun is set.
type Collector func(ctx context.Context, dryRun bool) (Collection, error)

// gc answers with what was removed, as JSON.
func (v *Views) gc(w http.ResponseWriter, r *http.Request) {
	dry := false
	if s := r.URL.Query().Get("dry_run"); s != "" {
		var err error
		if dry, err = strconv.ParseBool(s); err != nil {
			fail(w, http.StatusBadRequest, "console: dry_run %s: want true or false", printable(s))
			return
		}
	}
	found, err := v.GC(r.Context(), dry)
	if err != nil {
		fail(w, statusOf(err), "console: collect: %s", printable(err.Error()))
		return
	}
	found.Garbage = append([]Garbage{}, found.Garbage...)
	writeJSON(w, found)
}
