package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors that Views.Rollback and the like wrap to say whose mistake it is. Any other is
// answered with 500.
var (
	ErrNoVersion = errors.New("no such version")        // answered with 404
	ErrState     = errors.New("not possible right now") // answered with 409
)

// rollbackPath takes a version away.
const rollbackPath = "/models/{model}/versions/{version}/rollback"

// maxReason bounds a reason in bytes: it is stored with the refusal.
const maxReason = 512

// rollback takes one version of a model away for good.
func (v *Views) rollback(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	version, ok := versionIn(w, r)
	if !ok {
		return
	}
	reason := strings.TrimSpace(r.URL.Query().Get("reason"))
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) {
		fail(w, http.StatusBadRequest, "console: reason: say why in 1 to %d bytes of UTF-8, like ?reason=wrong+scores: it is kept with the refusal", maxReason)
		return
	}
	if err := v.Rollback(r.Context(), model, version, reason); err != nil {
		fail(w, statusOf(err), "console: roll back %s@%d: %s", printable(model), version, printable(err.Error()))
		return
	}
	_, _ = fmt.Fprintf(text(w, http.StatusOK), "%s@%d is rolled back and will not be tried again: %s\n", printable(model), version, printable(reason))
}

// change lets a POST through that comes from the console's own page, or from a
// program that means it. why says what it would change.
func change(why string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		guard(w)
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			fail(w, http.StatusMethodNotAllowed, "console: %s %s: %s: use POST", printable(r.Method), printable(r.URL.Path), why)
			return
		}
		if err := sameOrigin(r); err != nil {
			fail(w, http.StatusForbidden, "console: %s: %v", printable(r.URL.Path), err)
			return
		}
		next(w, r)
	}
}

// versionIn returns the number of a version in a path. False: it is none, and was
// answered so.
func versionIn(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	version, err := strconv.ParseUint(r.PathValue("version"), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "console: version %s: want a number, as /models lists them", printable(r.PathValue("version")))
	}
	return version, err == nil
}

// statusOf is the status that says whose mistake an error is.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNoVersion):
		return http.StatusNotFound
	case errors.Is(err, ErrState):
		return http.StatusConflict
	default:
		return http.StatusInternalServerError
	}
}

// sameOrigin says why a request is not believed to come from the console's own
// page or from a program that means it. A browser sends Origin with every POST
// (Fetch, section 3.2), so a foreign page gives itself away, and one whose name
// was made to resolve to this host (DNS rebinding) does by Host: an address
// cannot be rebound.
func sameOrigin(r *http.Request) error {
	if name := (&url.URL{Host: r.Host}).Hostname(); !strings.EqualFold(name, "localhost") {
		if _, err := netip.ParseAddr(name); err != nil {
			return fmt.Errorf("host %s: a name can be made to lead here by anybody: use localhost or an IP address", printable(r.Host))
		}
	}
	own := "http://" + strings.TrimSuffix(r.Host, ":80") // as browsers write an origin: without the default port
	switch sent := r.Header.Values("Origin"); {
	case len(sent) == 0:
		return fmt.Errorf("no Origin header: send Origin: %s, or use quadnine model rollback", printable(own))
	case len(sent) > 1 || !strings.EqualFold(strings.TrimSuffix(sent[0], ":80"), own):
		return fmt.Errorf("origin %s is foreign here, %s is not: use quadnine model rollback", printable(strings.Join(sent, ", ")), printable(own))
	}
	return nil
}
