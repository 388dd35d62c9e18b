package captures

import (
	"io"
	"net/http"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// traffic sends a request through each route of each listener, and through each
// cluster, that is taken. It returns how many were answered by the backend.
func (s *stage) traffic(t *testing.T) (carried int) {
	t.Helper()
	for _, r := range s.resources {
		if s.skip != nil && s.skip(r) || !s.taken(r) {
			continue
		}
		switch r.api {
		case "CDS":
			carried += s.asks(t, s.probes, r.key(), ask{method: http.MethodGet, host: "q.example", path: "/q", header: http.Header{clusterHeader: {r.name}}}, []int{s.answers(r.name)})
		case "EDS":
			carried += s.asks(t, s.probes, r.key(), ask{method: http.MethodGet, host: "q.example", path: "/q", header: http.Header{clusterHeader: {s.assigned[r.name]}}}, []int{ofEndpoints(r.json)})
		case "RDS":
			carried += s.routes(t, s.tables[r.name], r.key(), r.json)
		case "LDS":
			h := manager(r)
			table := field(h, "route_config")
			if name, _ := field(h, "rds", "route_config_name").(string); name != "" {
				i := slices.IndexFunc(s.resources, func(x *resource) bool { return x.api == "RDS" && x.name == name })
				if i < 0 || !s.taken(s.resources[i]) {
					continue // it waits for a table
				}
				table = s.resources[i].json
			}
			carried += s.health(t, r, h)
			carried += s.routes(t, r.addr, r.key(), table)
		}
	}
	return carried
}

// health asks what a listener's health check filter answers.
func (s *stage) health(t *testing.T, r *resource, hcm any) int {
	t.Helper()
	filters, _ := field(hcm, "http_filters").([]any)
	for _, f := range filters {
		if field(f, "name") != "envoy.filters.http.health_check" {
			continue
		}
		headers, _ := field(f, "typed_config", "headers").([]any)
		for _, h := range headers {
			if path, _ := field(h, "string_match", "exact").(string); field(h, "name") == ":path" && path != "" {
				return s.asks(t, r.addr, r.key()+" health check", ask{method: http.MethodGet, host: "q.example", path: path}, []int{http.StatusOK})
			}
		}
	}
	return 0
}

// routes sends a request for each route of a table.
func (s *stage) routes(t *testing.T, addr, what string, table any) (carried int) {
	t.Helper()
	m := new(routev3.RouteConfiguration)
	fill(t, m, table)
	for _, h := range m.GetVirtualHosts() {
		for _, r := range h.GetRoutes() {
			carried += s.asks(t, addr, what+" "+r.GetName(), matching(t, h, r), s.expects(r))
		}
	}
	return carried
}

// expects returns the statuses that a route may answer.
func (s *stage) expects(r *routev3.Route) (out []int) {
	switch a := r.GetAction().(type) {
	case *routev3.Route_Redirect:
		return []int{map[routev3.RedirectAction_RedirectResponseCode]int{
			routev3.RedirectAction_MOVED_PERMANENTLY: 301, routev3.RedirectAction_FOUND: 302, routev3.RedirectAction_SEE_OTHER: 303,
			routev3.RedirectAction_TEMPORARY_REDIRECT: 307, routev3.RedirectAction_PERMANENT_REDIRECT: 308,
		}[a.Redirect.GetResponseCode()]}
	case *routev3.Route_DirectResponse:
		return []int{int(a.DirectResponse.GetStatus())}
	case *routev3.Route_Route:
		if name := a.Route.GetCluster(); name != "" {
			return []int{s.answers(name)}
		}
		for _, c := range a.Route.GetWeightedClusters().GetClusters() {
			out = append(out, s.answers(c.GetName()))
		}
	}
	return out
}

// answers returns the status that a cluster answers: 200, or 503 if it is not
// taken or has no endpoints.
func (s *stage) answers(name string) int {
	i := slices.IndexFunc(s.resources, func(r *resource) bool { return r.api == "CDS" && r.name == name })
	if i < 0 || !s.taken(s.resources[i]) {
		return http.StatusServiceUnavailable
	}
	c := s.resources[i].json
	if field(c, "type") != "EDS" {
		return ofEndpoints(field(c, "load_assignment"))
	}
	service, _ := field(c, "eds_cluster_config", "service_name").(string)
	if service == "" {
		service = name
	}
	i = slices.IndexFunc(s.resources, func(r *resource) bool { return r.api == "EDS" && r.name == service })
	if i < 0 || !s.taken(s.resources[i]) {
		return http.StatusServiceUnavailable
	}
	return ofEndpoints(s.resources[i].json)
}

// ofEndpoints is 200 when an assignment has an endpoint, else 503.
func ofEndpoints(assignment any) int {
	all, _ := field(assignment, "endpoints").([]any)
	for _, e := range all {
		if lbs, _ := field(e, "lb_endpoints").([]any); len(lbs) > 0 {
			return http.StatusOK
		}
	}
	return http.StatusServiceUnavailable
}

// asks sends a request and checks the status; 1 when the backend answered.
func (s *stage) asks(t *testing.T, addr, what string, a ask, want []int) int {
	t.Helper()
	status, header := a.send(t, newCaller(t, addr))
	if !slices.Contains(want, status) {
		t.Errorf("%s: %v is answered %d, want %v", what, a, status, want)
	}
	if header.Get("q-backend") == "" {
		if status == http.StatusOK && slices.Contains(want, http.StatusServiceUnavailable) {
			t.Errorf("%s: %v is answered 200, and not by the backend", what, a)
		}
		return 0
	}
	return 1
}

// send sends the request; status 0 when there is no answer.
func (a ask) send(t *testing.T, c caller) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), a.method, "http://"+a.host+a.path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range a.header {
		req.Header[http.CanonicalHeaderKey(name)] = v
	}
	res, err := c.Do(req)
	if err != nil {
		t.Errorf("%v: %v", a, err)
		return 0, nil
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("%v: %v", a, err)
	}
	return res.StatusCode, res.Header
}
