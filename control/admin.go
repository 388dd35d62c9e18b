package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/encoding/protojson"
)

// Handler serves the admin pages: /ready, /status, /config_dump, /models,
// /metrics and /validate.
func (s *Server) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.Status(r.URL.Query().Get("node"))) })
	mux.HandleFunc("GET /config_dump", s.configDump)
	mux.HandleFunc("GET /models", s.models)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /validate", s.validate)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, `/ready        200 while the newest files are served, 200 with a warning while older ones are
/status       the directory, groups and nodes (JSON); ?node=ID shows all of a node's resources
/config_dump  what is served (JSON, as Envoy writes it); ?group=NAME
/models       versions on trial on the sidecars, and what all of them together decided; ?format=json
/metrics      for Prometheus
/validate     POST a file of resources: whether it is valid, without serving it
`)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	problem := s.problem
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if problem != nil {
		fmt.Fprintf(w, "LIVE, serving older files: the newest are not valid:\n%v\n", problem)
		return
	}
	fmt.Fprintln(w, "LIVE")
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the caller is gone: there is nobody to tell
}

func (s *Server) configDump(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	g := set.Group(r.URL.Query().Get("group"))
	if g == nil {
		http.Error(w, "control: no such group of nodes", http.StatusNotFound)
		return
	}
	dump, err := g.Dump()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(dump)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(out, '\n'))
}

// Verdict is what /validate says.
type Verdict struct {
	Valid    bool     `json:"valid"`
	Errors   []string `json:"errors,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func (s *Server) validate(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Sec-Fetch-Site"), "cross") {
		http.Error(w, "control: /validate is not for other sites' pages", http.StatusForbidden)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFile))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	l := Loader{Strict: s.loader.Strict}
	set, err := l.take([]file{{name: "body", data: data}})
	v := Verdict{Valid: err == nil, Errors: lines(err)}
	if err == nil {
		v.Warnings = set.Warnings
	}
	writeJSON(w, v)
}
