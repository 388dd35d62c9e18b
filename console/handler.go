package console

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// page is one path of the console. serve is nil where the path is only listed: it
// takes a POST.
type page struct {
	path, help string
	serve      http.HandlerFunc
}

// New returns the console's handler.
func New(v Views) http.Handler {
	if v.Ready == nil {
		v.Ready = func() State { return PreInitializing }
	}
	pages := pagesOf(&v)
	mux := http.NewServeMux()
	for _, p := range pages {
		if p.serve != nil {
			mux.HandleFunc(p.path, p.serve)
		}
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { index(text(w, http.StatusOK), pages) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		out := text(w, http.StatusNotFound)
		_, _ = fmt.Fprintf(out, "console: no page %s; there are:\n\n", printable(r.URL.Path))
		index(out, pages)
	})
	root := http.NewServeMux()
	root.Handle("/", readOnly(mux))
	if v.Rollback != nil {
		root.HandleFunc(rollbackPath, change("a rollback changes what answers", v.rollback))
	}
	if v.Activate != nil {
		root.HandleFunc(activatePath, change("this changes what answers", v.activate))
	}
	if v.GC != nil {
		root.HandleFunc(gcPath, change("this removes files", v.gc))
	}
	v.studies(root)
	if v.XDS != nil && v.XDS.Validate != nil {
		root.HandleFunc("/xds/validate", action(v.XDS.validate))
	}
	if v.XDS != nil && v.XDS.SetRuntime != nil {
		root.HandleFunc("/runtime_modify", action(v.XDS.setRuntime))
	}
	for path, do := range v.Control.actions() {
		root.HandleFunc(path, action(do))
	}
	return root
}

// pagesOf lists the pages that v has something to show on.
func pagesOf(v *Views) []page {
	pages := []page{{"/ready", "200 LIVE, or 503 and the state", v.ready}}
	if v.Metrics != nil {
		pages = append(pages, page{"/stats/prometheus", "metrics for Prometheus", v.Metrics.ServeHTTP})
	}
	if v.Clusters != nil {
		pages = append(pages, page{"/clusters", "upstream clusters and endpoints; ?format=text|json|jsonl", v.clusters})
	}
	if v.Breakers != nil {
		pages = append(pages, page{"/breakers", "circuit breakers; ?tenant= ?metric= ?state=closed|half_open|open ?format=text|json|jsonl", v.breakers})
	}
	if v.Models != nil {
		help := "models, their versions, and what was refused or quarantined; ?format=text|json|jsonl"
		if v.Rollback != nil {
			help += "; POST " + rollbackPath + "?reason= takes a version back"
		}
		if v.Shadow != nil {
			help += "; POST " + shadowPath + "?percent= computes one in shadow"
		}
		if v.StartExperiment != nil && v.StopExperiment != nil {
			help += "; POST " + startExperimentPath + "?arm=1=50&arm=2=50&by= and …/stop?winner= begin and end an experiment"
		}
		if v.GC != nil {
			help += "; POST " + gcPath + "?dry_run=true lists what nothing in the store needs, without it removes that"
		}
		if v.Activate != nil {
			help += "; POST " + activatePath + " makes one the active version"
		}
		pages = append(pages, page{"/models", help, v.models})
	}
	if v.Explain != nil {
		pages = append(pages, page{"/explain", "what a query would get now, and why; ?tenant= ?metric= ?format=text|json", v.explain})
	}
	if v.Certificates != nil {
		pages = append(pages, page{"/certs", "certificates in use, when they end, and why newer files are not used (JSON)", v.certs})
	}
	if v.Listeners != nil {
		pages = append(pages, page{"/listeners", "addresses that requests are taken on; ?format=text|json|jsonl", v.listeners})
	}
	if v.XDS != nil {
		pages = append(pages, v.XDS.pages()...)
	}
	if v.Info != nil {
		pages = append(pages, page{"/server_info", "version, role, addresses, uptime (JSON)", v.info})
	}
	if v.Memory != nil {
		pages = append(pages, page{"/memory", "memory and connections, their ceilings, and what is done against overload (JSON)", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, v.Memory()) }})
	}
	if v.XDS != nil && v.XDS.Validate != nil {
		pages = append(pages, page{"/xds/validate", "POST a bootstrap or a DiscoveryResponse (YAML or JSON): would it be accepted?", nil})
	}
	if v.XDS != nil && v.XDS.SetRuntime != nil {
		pages = append(pages, page{"/runtime_modify", "POST ?key=value: changes values of the runtime's admin_layer; an empty value takes a key out", nil})
	}
	if v.Control.FailHealth != nil {
		pages = append(pages, page{"/healthcheck/fail", "POST: health checks fail from now on; /healthcheck/ok ends it", nil})
	}
	if v.Control.DrainListeners != nil {
		pages = append(pages, page{"/drain_listeners", "POST: take no new connections; ?graceful asks callers to leave first, for the drain time; with &skip_exit it only asks", nil})
	}
	if v.Control.Quit != nil {
		pages = append(pages, page{"/quitquitquit", "POST: drain and end the process", nil})
	}
	return pages
}

func index(w io.Writer, pages []page) {
	for _, p := range pages {
		_, _ = fmt.Fprintf(w, "%-18s %s\n", p.path, p.help)
	}
}

// guard keeps an answer out of caches, and from being taken for what it is not.
func guard(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

// readOnly lets GET and HEAD through.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard(w)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			fail(w, http.StatusMethodNotAllowed, "console: %s %s: the console only reads: use GET or HEAD",
				printable(r.Method), printable(r.URL.Path))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (v *Views) ready(w http.ResponseWriter, _ *http.Request) {
	state := v.Ready()
	status := http.StatusOK
	if state != Live {
		status = http.StatusServiceUnavailable
	}
	out := text(w, status)
	_, _ = fmt.Fprintln(out, state)
	if v.Note != nil {
		if note := v.Note(); note != "" {
			_, _ = fmt.Fprintln(out, note)
		}
	}
}

// serverInfo is Info and what the console knows by itself.
type serverInfo struct {
	State  State   `json:"state"`
	Uptime Seconds `json:"uptime_s"`
	Info
}

func (v *Views) info(w http.ResponseWriter, _ *http.Request) {
	info := v.Info()
	info.Listen = append([]string{}, info.Listen...) // arrays in JSON, also when empty
	info.Upstream = append([]string{}, info.Upstream...)
	writeJSON(w, serverInfo{State: v.Ready(), Uptime: Seconds(time.Since(info.Started)), Info: info})
}
