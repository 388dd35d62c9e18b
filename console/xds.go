package console

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// XDS shows the configuration that a management server gives. Of its functions
// only Status and Dump are required.
type XDS struct {
	Status func() any // /xds/status: encodes as JSON

	// Dump returns Envoy's config_dump as JSON, endpoints included or not, and of
	// the kind that resource names when it is not empty: "dynamic_listeners".
	Dump func(endpoints bool, resource string) ([]byte, error)

	// Validate compiles a bootstrap or a DiscoveryResponse, as YAML or JSON,
	// without using it, and returns what has no effect. Its error says what is
	// wrong.
	Validate func(body []byte) (notes []string, err error)

	Runtime func() Runtime // /runtime

	// SetRuntime changes values of the runtime until the process ends; "" takes a
	// key out.
	SetRuntime func(changes map[string]string) error
}

// Listener is one address that requests are taken on.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"local_address"` // ip:port
}

// Runtime is the values of layered_runtime, as Envoy's /runtime shows them.
type Runtime struct {
	Layers  []string                `json:"layers"`
	Entries map[string]RuntimeEntry `json:"entries"`
}

// RuntimeEntry is the values of one key, in the order of the layers.
type RuntimeEntry struct {
	LayerValues []string `json:"layer_values"`
	FinalValue  string   `json:"final_value"`
}

// Control is what the admin port can do to the process. What is nil is not
// offered.
type Control struct {
	FailHealth func(fail bool) // /healthcheck/fail, /healthcheck/ok

	// DrainListeners is /drain_listeners: no connection is taken any more. With
	// graceful, callers are asked to leave and connections are still taken for the
	// drain time, or with stay for good.
	DrainListeners func(graceful, stay bool)

	Quit func() // /quitquitquit
}

// maxValidate bounds what /xds/validate reads.
const maxValidate = 64 << 20

// maxForm bounds what /runtime_modify reads.
const maxForm = 1 << 20

// pages lists the paths of x.
func (x *XDS) pages() []page {
	pages := []page{
		{"/config_dump", "the configuration in force, as Envoy writes it (JSON); ?include_eds ?resource=dynamic_active_clusters", x.dump},
		{"/xds/status", "every resource: version received, accepted, in use; state, error, since (JSON)", x.status},
	}
	if x.Runtime != nil {
		pages = append(pages, page{"/runtime", "values of layered_runtime (JSON)", x.runtime})
	}
	return pages
}

func (x *XDS) status(w http.ResponseWriter, _ *http.Request) { writeJSON(w, x.Status()) }

func (x *XDS) runtime(w http.ResponseWriter, _ *http.Request) { writeJSON(w, x.Runtime()) }

func (x *XDS) dump(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for name := range q {
		if name != "include_eds" && name != "resource" {
			fail(w, http.StatusBadRequest, "console: /config_dump: parameter %s is not known: use include_eds or resource", printable(name))
			return
		}
	}
	out, err := x.Dump(q.Has("include_eds"), q.Get("resource"))
	if err != nil {
		fail(w, http.StatusBadRequest, "console: /config_dump: %s", printable(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

// validate is POST /xds/validate.
func (x *XDS) validate(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValidate))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		fail(w, status, "console: /xds/validate: %v: at most %d bytes", err, maxValidate)
		return
	}
	notes, err := x.Validate(body)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, "%s", err)
		return
	}
	out := text(w, http.StatusOK)
	for _, n := range notes {
		_, _ = fmt.Fprintln(out, "no effect:", printable(n))
	}
	_, _ = fmt.Fprintln(out, "valid")
}

// setRuntime is POST /runtime_modify, with the values in the query or in a form.
func (x *XDS) setRuntime(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "console: /runtime_modify: %s", printable(err.Error()))
		return
	}
	changes := make(map[string]string)
	for key, values := range r.Form {
		if key == "" || len(values) > 1 {
			fail(w, http.StatusBadRequest, "console: /runtime_modify: key %q stands there %d times: give every key a name and one value", printable(key), len(values))
			return
		}
		changes[key] = values[0]
	}
	if len(changes) == 0 {
		fail(w, http.StatusBadRequest, "console: /runtime_modify: nothing to change: use ?key1=value1&key2=value2, or send a form; an empty value takes a key out")
		return
	}
	if err := x.SetRuntime(changes); err != nil {
		fail(w, http.StatusServiceUnavailable, "console: /runtime_modify: %s", printable(err.Error()))
		return
	}
	ok(w)
}

func (v *Views) listeners(w http.ResponseWriter, r *http.Request) {
	if f, ok := formatOf(w, r, asText, asJSON, asLines); ok {
		stream(w, f, "listeners", v.Listeners(), func(w io.Writer, l Listener) {
			_, _ = fmt.Fprintf(w, "%s::%s\n", printable(l.Name), l.Address)
		})
	}
}

// actions lists what c offers, by path.
func (c *Control) actions() map[string]http.HandlerFunc {
	out := make(map[string]http.HandlerFunc)
	if c.FailHealth != nil {
		out["/healthcheck/fail"] = func(w http.ResponseWriter, _ *http.Request) { c.FailHealth(true); ok(w) }
		out["/healthcheck/ok"] = func(w http.ResponseWriter, _ *http.Request) { c.FailHealth(false); ok(w) }
	}
	if c.DrainListeners != nil {
		out["/drain_listeners"] = func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			for name := range q {
				if name != "graceful" && name != "skip_exit" {
					fail(w, http.StatusBadRequest, "console: /drain_listeners: parameter %s is not known: use graceful, graceful&skip_exit or none: all listeners are drained", printable(name))
					return
				}
			}
			if q.Has("skip_exit") && !q.Has("graceful") {
				fail(w, http.StatusBadRequest, "console: /drain_listeners: skip_exit needs graceful: without it listeners close at once")
				return
			}
			c.DrainListeners(q.Has("graceful"), q.Has("skip_exit"))
			ok(w)
		}
	}
	if c.Quit != nil {
		out["/quitquitquit"] = func(w http.ResponseWriter, _ *http.Request) { ok(w); c.Quit() }
	}
	return out
}

// ok answers as Envoy does.
func ok(w http.ResponseWriter) { _, _ = io.WriteString(text(w, http.StatusOK), "OK\n") }

// action lets a POST through that a program sends, or the console's own page. A
// browser says where a POST comes from (Fetch, section 3.2); curl and kubelet
// hooks do not.
func action(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		guard(w)
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			fail(w, http.StatusMethodNotAllowed, "console: %s %s: it changes something: use POST", printable(r.Method), printable(r.URL.Path))
			return
		}
		if r.Header.Get("Origin") != "" {
			if err := sameOrigin(r); err != nil {
				fail(w, http.StatusForbidden, "console: %s: %v", printable(r.URL.Path), err)
				return
			}
		}
		next(w, r)
	}
}
