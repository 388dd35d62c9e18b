package statsapp

import (
	"io"
	"net/http"
	"strings"
)

// maxQuery bounds the body of a POST query, in bytes.
const maxQuery = 64 << 10

func (a *App) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/events", a.serveEvents)
	mux.HandleFunc("GET /api/v2/metrics/query", a.serveQuery)
	mux.HandleFunc("POST /api/v2/metrics/query", a.serveQuery)
	mux.HandleFunc("POST /api/v2/echo", a.serveEcho)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		jsonReply(http.StatusOK, map[string]string{"status": "ok"}).send(w)
	})
	mux.HandleFunc("PUT /faults/{tenant}", a.serveSetFault)
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) {
		jsonReply(http.StatusOK, a.faults.view()).send(w)
	})
	mux.HandleFunc("GET /debug/counters", func(w http.ResponseWriter, _ *http.Request) {
		v := a.counters.view()
		v.Faults = a.faults.view()
		jsonReply(http.StatusOK, v).send(w)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get("X-Model-Version"); v != "" {
			w.Header().Set("X-Model-Version", v)
		}
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			a.counters.grpc.Add(1)
			a.serveGRPC(w, r)
			return
		}
		a.counters.http.Add(1)
		mux.ServeHTTP(w, r)
	})
}

// headerTenant returns the tenant that the header names: it wins over all else.
func headerTenant(r *http.Request) string { return r.Header.Get("X-Tenant-Id") }

func (a *App) serveQuery(w http.ResponseWriter, r *http.Request) {
	q := newQuery()
	if err := a.readQuery(w, r, &q); err != nil {
		a.answer(w, r, q.Tenant, func() reply { return refuse(err) })
		return
	}
	a.answer(w, r, q.Tenant, func() reply {
		result, err := a.Query(q)
		if err != nil {
			return refuse(err)
		}
		return jsonReply(http.StatusOK, result)
	})
}

// readQuery fills q from the parameters, then a POST's body, then the header.
// The tenant is set even when another part is wrong.
func (a *App) readQuery(w http.ResponseWriter, r *http.Request, q *Query) error {
	err := q.fromURL(r.URL.RawQuery)
	if r.Method == http.MethodPost && err == nil {
		var body []byte
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery)); err == nil {
			err = q.fromJSON(body)
		}
	}
	if t := headerTenant(r); t != "" {
		q.Tenant = t
	}
	return err
}

func (a *App) serveSetFault(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if err != nil {
		refuse(err).send(w)
		return
	}
	f, err := parseFault(body)
	if err == nil {
		err = a.SetFault(r.PathValue("tenant"), f)
	}
	if err != nil {
		refuse(err).send(w)
		return
	}
	jsonReply(http.StatusOK, f).send(w)
}
