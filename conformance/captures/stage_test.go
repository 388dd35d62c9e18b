package captures

import (
	"strconv"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"

	"github.com/quadnine/quadnine/bench/proc"
)

// stage is one capture and the sidecar that it is replayed to.
type stage struct {
	server    string // whose capture it is
	backend   *backend
	manager   *management
	sidecar   *sidecar
	resources []*resource
	probes    string            // the address of the listener that forwards to any cluster
	tables    map[string]string // addresses of listeners for tables, by their names
	assigned  map[string]string // names of clusters for assignments, by theirs

	sent     map[string][]types.Resource   // by API
	versions map[string]map[string]string  // of what was sent last, by API and name
	edit     func(types.Resource)          // changes what is sent; nil: nothing
	states   map[string]state              // as of the last push, by API and name
	skip     func(r *resource) (skip bool) // leaves resources out; nil: none
}

// servers are the captures, the bootstrap of each, and the node it is for.
var servers = []struct{ name, bootstrap, node string }{
	{"envoy-gateway", "envoy-gateway.json", "envoy-gateway-1"},
	{"istio-sidecar-delta", "istio.json", "sidecar~127.0.0.1~client-1.default~default.svc.cluster.local"},
	{"kuma", "kuma.yaml", "default.client-1"},
}

// eachServer runs a test on a stage for every capture.
func eachServer(t *testing.T, f func(t *testing.T, s *stage)) {
	t.Helper()
	for _, x := range servers {
		t.Run(x.name, func(t *testing.T) {
			t.Helper()
			f(t, newStage(t, x.name))
		})
	}
}

// newStage starts everything; nothing is pushed yet.
func newStage(t *testing.T, server string) *stage {
	t.Helper()
	for _, x := range servers {
		if x.name != server {
			continue
		}
		s := &stage{server: server, backend: startBackend(t), manager: startManagement(t, x.node), tables: make(map[string]string), assigned: make(map[string]string)}
		s.resources = load(t, server, s.backend.addr, t.TempDir())
		s.sidecar = startSidecar(t, x.bootstrap, x.node, s.manager.addr, s.backend.addr)
		addrs, err := proc.Addrs(len(s.resources) + 1)
		if err != nil {
			t.Fatal(err)
		}
		s.probes = addrs[0]
		for i, r := range s.resources {
			switch r.api {
			case "RDS":
				s.tables[r.name] = addrs[1+i]
			case "EDS":
				s.assigned[r.name] = edsPrefix + strconv.Itoa(i)
			}
		}
		return s
	}
	t.Fatalf("no capture of %s", server)
	return nil
}

// push sends everything, and waits until the sidecar has said something of each.
func (s *stage) push(t *testing.T) {
	t.Helper()
	s.sent = make(map[string][]types.Resource)
	add := func(api string, m types.Resource) { s.sent[api] = append(s.sent[api], m) }
	for i, r := range s.resources {
		if s.skip != nil && s.skip(r) {
			continue
		}
		m := r.message(t)
		if s.edit != nil {
			s.edit(m)
		}
		add(r.api, m)
		switch r.api {
		case "RDS":
			add("LDS", toTable(t, i, s.tables[r.name], r.name))
		case "EDS":
			add("CDS", ofAssignment(i, r.name))
		}
	}
	add("LDS", toClusters(t, s.probes))
	s.versions = s.manager.set(t, s.sent)
	var waits string
	settled := until(t, func() bool {
		select {
		case <-s.sidecar.Done():
			t.Fatalf("quadnine ended:\n%s", s.sidecar.Output())
		default:
		}
		s.states = s.sidecar.states(t)
		for api, names := range s.versions {
			for name, version := range names {
				if got := s.states[api+" "+name]; got.Received != version || got.State == "warming" && !s.cold(api, name) {
					waits = api + " " + name + ": " + got.State + " " + got.Error
					return false
				}
			}
		}
		return true
	})
	if !settled {
		t.Fatalf("not settled, for one: %s\nrejected: %s", waits, strings.Join(s.manager.rejections(), "\n"))
	}
}

// cold reports whether something waits for what it never gets: a listener of a
// table that is refused, a cluster whose assignment was not sent.
func (s *stage) cold(api, name string) bool {
	switch api {
	case "LDS":
		for i, r := range s.resources {
			if r.api == "RDS" && name == tablePrefix+strconv.Itoa(i) {
				return s.states["RDS "+r.name].State == "rejected"
			}
			if r.api == "LDS" && r.name == name {
				rds, _ := manager(r).(map[string]any)
				table, _ := field(rds, "rds", "route_config_name").(string)
				return table != "" && s.states["RDS "+table].State == "rejected"
			}
		}
	case "CDS":
		for _, r := range s.resources {
			if r.api != "CDS" || r.name != name {
				continue
			}
			service, _ := field(r.json, "eds_cluster_config", "service_name").(string)
			if service == "" {
				service = name
			}
			return field(r.json, "type") == "EDS" && s.versions["EDS"][service] == ""
		}
	}
	return false
}

// manager returns the HTTP connection manager of a listener as it was sent, or
// nil.
func manager(r *resource) any {
	chains, _ := field(r.json, "filter_chains").([]any)
	if c := field(r.json, "default_filter_chain"); c != nil {
		chains = append([]any{c}, chains...)
	}
	for _, c := range chains {
		filters, _ := field(c, "filters").([]any)
		for _, f := range filters {
			if field(f, "name") == "envoy.filters.network.http_connection_manager" {
				return field(f, "typed_config")
			}
		}
	}
	return nil
}

// taken reports whether the newest version of a resource is accepted.
func (s *stage) taken(r *resource) bool {
	got := s.states[r.api+" "+r.name]
	return got.State != "rejected" && got.Accepted == s.versions[r.api][r.name]
}
