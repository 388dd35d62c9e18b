package console

import (
	"fmt"
	"net/http"
	"time"
)

// activatePath makes a version the active one, without a trial.
const activatePath = "/models/{model}/versions/{version}/activate"

// activate answers when the version is active, or cannot be.
func (v *Views) activate(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	version, ok := versionIn(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // a version that is fetched takes its time; who asked may leave
	if err := v.Activate(r.Context(), model, version); err != nil {
		fail(w, statusOf(err), "console: activate %s@%d: %s", printable(model), version, printable(err.Error()))
		return
	}
	_, _ = fmt.Fprintf(text(w, http.StatusOK), "%s@%d is active\n", printable(model), version)
}
