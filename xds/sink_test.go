package xds

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// fakeSink takes everything but what is in reject, and wants what the clusters
// and listeners that it took name.
type fakeSink struct {
	mu        sync.Mutex
	reject    map[string]Rejected      // by name
	have      [kinds]map[string]string // versions
	needs     [kinds]map[string]string // of a cluster or listener, what it names
	extra     map[Kind][]string        // wanted besides
	fetch     map[Kind]map[string]time.Duration
	updates   []Update
	missing   []string
	connected []string
	heard     chan struct{} // told of every call, if there is one
}

func newFakeSink() *fakeSink {
	s := &fakeSink{reject: make(map[string]Rejected), extra: make(map[Kind][]string)}
	for k := range kinds {
		s.have[k], s.needs[k] = make(map[string]string), make(map[string]string)
	}
	return s
}

func (s *fakeSink) tell() {
	if s.heard != nil {
		s.heard <- struct{}{}
	}
}

// change changes what the sink does while a client runs.
func (s *fakeSink) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *fakeSink) Update(u Update) (rejected []Rejected) {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates = append(s.updates, u)
	seen := make(map[string]bool)
	for _, r := range u.Resources {
		seen[r.Name] = true
		if why, bad := s.reject[r.Name]; bad {
			why.Name = r.Name
			rejected = append(rejected, why)
			continue
		}
		s.have[u.Kind][r.Name] = r.Version
		switch u.Kind {
		case KindCluster:
			var c clusterv3.Cluster
			if proto.Unmarshal(r.Body, &c) == nil && c.GetType() == clusterv3.Cluster_EDS {
				s.needs[u.Kind][r.Name] = r.Name
			}
		case KindListener:
			var l listenerv3.Listener
			if proto.Unmarshal(r.Body, &l) == nil {
				s.needs[u.Kind][r.Name] = l.GetStatPrefix()
			}
		}
	}
	gone := u.Removed
	if u.Variant == VariantSotw && u.Kind.Wildcard() {
		for name := range s.have[u.Kind] {
			if !seen[name] {
				gone = append(gone, name)
			}
		}
	}
	for _, name := range gone {
		delete(s.have[u.Kind], name)
		delete(s.needs[u.Kind], name)
	}
	return rejected
}

func (s *fakeSink) Wanted(k Kind) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.extra[k])
	switch k {
	case KindEndpoints:
		list = slices.AppendSeq(list, maps.Values(s.needs[KindCluster]))
	case KindRoutes:
		list = slices.AppendSeq(list, maps.Values(s.needs[KindListener]))
	}
	return list
}

func (s *fakeSink) Versions(k Kind, _ []string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.have[k])
}

func (s *fakeSink) FetchTimeouts(k Kind, _ []string) map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.fetch[k])
}

func (s *fakeSink) Missing(k Kind, name string) {
	s.missing = append(s.missing, k.String()+" "+name)
	s.tell()
}

func (s *fakeSink) Connected(server string, up bool, err error) {
	word := server + " down"
	if up {
		word = server + " up"
	}
	if err != nil {
		word += ": " + err.Error()
	}
	s.connected = append(s.connected, word)
	s.tell()
}

// cluster is an EDS cluster; what differs makes its bytes differ.
func cluster(name, differs string) proto.Message {
	return &clusterv3.Cluster{
		Name: name, AltStatName: differs, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()},
	}
}

// listener names a route table.
func listener(name, table string) proto.Message {
	manager := &routerv3.HttpConnectionManager{RouteSpecifier: &routerv3.HttpConnectionManager_Rds{Rds: &routerv3.Rds{RouteConfigName: table, ConfigSource: adsSource()}}}
	config, err := anypb.New(manager)
	if err != nil {
		panic(err)
	}
	return &listenerv3.Listener{Name: name, StatPrefix: table, FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
	}}}}}
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func wrap(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// harness drives one session by hand.
type harness struct {
	testing.TB
	*session
	sink *fakeSink
	now  time.Time
}

func newHarness(t testing.TB, d dialect, sink *fakeSink, m *memory) *harness {
	t.Helper()
	if m == nil {
		m = &memory{}
	}
	h := &harness{TB: t, sink: sink, now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	h.session = &session{
		dialect: d, node: &corev3.Node{Id: "n"}, nodeOnce: true, sink: sink, log: quiet, memory: m,
		timeout: func(Kind) time.Duration { return fetchTimeout },
	}
	h.start(h.now)
	return h
}

// give hands over a response and returns the requests that follow.
func (h *harness) give(m proto.Message) []proto.Message {
	h.receive(h.now, m)
	return h.take()
}

// after lets time pass, with everything that is due on the way.
func (h *harness) after(d time.Duration) []proto.Message {
	end := h.now.Add(d)
	for due := h.deadline(); !due.IsZero() && !due.After(end); due = h.deadline() {
		h.now = due
		h.tick(h.now)
	}
	h.now = end
	return h.take()
}

func (h *harness) sotw(k Kind, version, nonce string, resources ...proto.Message) *discoveryv3.DiscoveryResponse {
	r := &discoveryv3.DiscoveryResponse{TypeUrl: k.TypeURL(), VersionInfo: version, Nonce: nonce}
	for _, m := range resources {
		r.Resources = append(r.Resources, wrap(h.TB, m))
	}
	return r
}

func (h *harness) delta(k Kind, version, nonce string, resources ...proto.Message) *discoveryv3.DeltaDiscoveryResponse {
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: k.TypeURL(), Nonce: nonce}
	for _, m := range resources {
		packed := wrap(h.TB, m)
		name, err := nameOf(packed.GetValue())
		if err != nil {
			h.Fatal(err)
		}
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: version, Resource: packed})
	}
	return r
}

// says compares requests with their short forms; see brief.
func (h *harness) says(got []proto.Message, want ...string) {
	h.Helper()
	var lines []string
	for _, m := range got {
		lines = append(lines, brief(m))
	}
	if !slices.Equal(lines, want) {
		h.Fatalf("requests\n got %q\nwant %q", lines, want)
	}
}
