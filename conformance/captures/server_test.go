package captures

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// management is a go-control-plane server for one node.
type management struct {
	addr, node string
	cache      cache.SnapshotCache
	sets       int
	secrets    []types.Resource

	mu    sync.Mutex
	nacks []string // guarded by mu
	acks  int      // guarded by mu
}

// startManagement serves a node until the test ends.
func startManagement(t *testing.T, node string) *management {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &management{addr: l.Addr().String(), node: node, cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil)}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(context.Background(), m.cache, serverv3.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if r.GetErrorDetail() != nil {
				m.nacks = append(m.nacks, r.GetErrorDetail().GetMessage())
			} else if r.GetResponseNonce() != "" {
				m.acks++
			}
			return nil
		},
	}))
	go func() { _ = g.Serve(l) }() // ends with Stop
	t.Cleanup(g.Stop)
	return m
}

// rejections returns the texts of all NACKs.
func (m *management) rejections() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.nacks...)
}

// set gives the node its resources, and returns the versions they have by API
// and name.
func (m *management) set(t *testing.T, all map[string][]types.Resource) map[string]map[string]string {
	t.Helper()
	m.sets++
	s := new(cache.Snapshot)
	kinds := map[string]types.ResponseType{"CDS": types.Cluster, "EDS": types.Endpoint, "LDS": types.Listener, "RDS": types.Route}
	for api, kind := range kinds {
		s.Resources[kind] = cache.NewResources(strconv.Itoa(m.sets), all[api])
	}
	if m.secrets == nil {
		m.secrets = secrets(t)
	}
	s.Resources[types.Secret] = cache.NewResources("1", m.secrets) // who asks gets them; their versions are not waited for
	if err := s.ConstructVersionMap(); err != nil {
		t.Fatal(err)
	}
	if err := m.cache.SetSnapshot(t.Context(), m.node, s); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]map[string]string)
	for api, kind := range kinds {
		url, err := cache.GetResponseTypeURL(kind)
		if err != nil {
			t.Fatal(err)
		}
		out[api] = s.GetVersionMap(url)
	}
	return out
}
