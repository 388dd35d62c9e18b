package differential

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// verdict is what a node said of a resource.
type verdict struct {
	ok   bool
	text string // of the rejection
}

// resourceKey names a resource as it was sent to a node.
type resourceKey struct {
	node, typeURL, name string
	sum                 [16]byte // of its bytes
}

// answerKey names a response on a stream.
type answerKey struct {
	delta  bool
	stream int64
	nonce  string
}

// sent is a response: the snapshot's version, and what was in it.
type sent struct {
	version string
	keys    []resourceKey
}

// management is a go-control-plane server: one snapshot cache, and memory of who
// acknowledged what.
type management struct {
	addr  string
	cache cache.SnapshotCache
	grpc  *grpc.Server

	mu       sync.Mutex
	news     chan struct{} // closed and replaced when anything below changes
	nodes    map[answerKey]string
	pending  map[answerKey]sent
	verdicts map[resourceKey]verdict
	nacks    map[string]int // by node
	changes  int
	versions map[string]map[string]string    // in the snapshot: by node and type
	current  map[string]map[resourceKey]bool // by node
}

// startManagement starts a server at addr that ends with the test.
func startManagement(t *testing.T, addr string) *management {
	t.Helper()
	m := &management{
		addr: addr, news: make(chan struct{}), nodes: make(map[answerKey]string), pending: make(map[answerKey]sent),
		verdicts: make(map[resourceKey]verdict), nacks: make(map[string]int), versions: make(map[string]map[string]string),
		current: make(map[string]map[resourceKey]bool),
	}
	m.start(t)
	t.Cleanup(m.stop)
	return m
}

// start serves with an empty cache.
func (m *management) start(t *testing.T) {
	t.Helper()
	var l net.Listener
	var err error
	if !until(deadline(t, within), func() bool { l, err = net.Listen("tcp", m.addr); return err == nil }) {
		t.Fatal(err)
	}
	m.cache = cache.NewSnapshotCache(false, cache.IDHash{}, nil)
	m.grpc = grpc.NewServer()
	srv := serverv3.NewServer(context.Background(), m.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error {
			m.request(answerKey{false, id, r.GetResponseNonce()}, r.GetNode(), r.GetErrorDetail())
			return nil
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			m.request(answerKey{true, id, r.GetResponseNonce()}, r.GetNode(), r.GetErrorDetail())
			return nil
		},
		StreamResponseFunc: func(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			var names []string
			for _, a := range r.GetResources() {
				msg, err := a.UnmarshalNew()
				if err != nil {
					names = append(names, "?")
					continue
				}
				names = append(names, cache.GetResourceName(msg))
			}
			m.response(answerKey{false, id, r.GetNonce()}, r.GetTypeUrl(), r.GetVersionInfo(), names, r.GetResources())
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			var names []string
			var bodies []*anypb.Any
			for _, x := range r.GetResources() {
				names, bodies = append(names, x.GetName()), append(bodies, x.GetResource())
			}
			m.response(answerKey{true, id, r.GetNonce()}, r.GetTypeUrl(), r.GetSystemVersionInfo(), names, bodies)
		},
	})
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(m.grpc, srv)
	running := m.grpc
	go func() { _ = running.Serve(l) }()
}

// stop ends the server as a killed process would: connections are cut.
func (m *management) stop() { m.grpc.Stop() }

func (m *management) request(k answerKey, node *corev3.Node, bad *statuspb.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stream := answerKey{k.delta, k.stream, ""}
	if node.GetId() != "" {
		m.nodes[stream] = node.GetId()
	}
	if k.nonce == "" {
		return
	}
	if bad != nil {
		m.nacks[m.nodes[stream]]++
	}
	p := m.pending[k]
	for _, r := range p.keys {
		// What was said of an older response with others in it counts only if it
		// is good: it was refused as a whole.
		if bad == nil || p.version == m.versions[r.node][r.typeURL] {
			m.verdicts[r] = verdict{bad == nil, bad.GetMessage()}
		}
	}
	delete(m.pending, k)
	m.tell()
}

func (m *management) response(k answerKey, typeURL, version string, names []string, bodies []*anypb.Any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.nodes[answerKey{k.delta, k.stream, ""}]
	keys := make([]resourceKey, len(names))
	for i, name := range names {
		keys[i] = resourceKey{node, typeURL, name, sum(bodies[i].GetValue())}
	}
	m.pending[k] = sent{version, keys}
	m.tell()
}

// nacked returns how often a node has refused a response.
func (m *management) nacked(node string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nacks[node]
}

func (m *management) tell() {
	close(m.news)
	m.news = make(chan struct{})
}

func sum(p []byte) (s [16]byte) {
	h := sha256.Sum256(p)
	copy(s[:], h[:])
	return s
}

// await waits until ok, which is asked with the lock held.
func (m *management) await(ctx context.Context, ok func() bool) bool {
	for {
		m.mu.Lock()
		done, news := ok(), m.news
		m.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

// set gives a node its resources and returns the keys they will have.
func (m *management) set(t *testing.T, node string, c *config) []resourceKey {
	t.Helper()
	var keys []resourceKey
	versions := make(map[string]string)
	s := new(cache.Snapshot)
	for kind, all := range c.byKind() {
		h := sha256.New()
		url, err := cache.GetResponseTypeURL(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			h.Write(b)
			keys = append(keys, resourceKey{node, url, cache.GetResourceName(r), sum(b)})
		}
		versions[url] = m.version(node, url, hex.EncodeToString(h.Sum(nil)[:6]))
		s.Resources[kind] = cache.NewResources(versions[url], all)
	}
	m.expect(node, keys, versions)
	if err := m.cache.SetSnapshot(context.Background(), node, s); err != nil {
		t.Fatal(err)
	}
	return keys
}

// version returns the version of a type of resources: the one in use as long as
// they are the same, and else one that never was. Going back to a version that
// was accepted would not be told to a node that has refused the last one.
func (m *management) version(node, url, sum string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.versions[node][url]; strings.HasPrefix(old, sum) {
		return old
	}
	m.changes++
	return sum + "-" + strconv.Itoa(m.changes)
}

// expect forgets what a node said earlier of resources that it does not have now.
func (m *management) expect(node string, keys []resourceKey, versions map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[resourceKey]bool)
	for _, k := range keys {
		now[k] = true
		if !m.current[node][k] || !m.verdicts[k].ok {
			delete(m.verdicts, k)
		}
	}
	m.current[node], m.versions[node] = now, versions
}

// settle waits until every key has a verdict, and returns them.
func (m *management) settle(t *testing.T, keys []resourceKey) map[resourceKey]verdict {
	t.Helper()
	out := make(map[resourceKey]verdict)
	var waits resourceKey
	ok := m.await(deadline(t, within), func() bool {
		for _, k := range keys {
			v, ok := m.verdicts[k]
			if !ok {
				waits = k
				return false
			}
			out[k] = v
		}
		return true
	})
	if !ok {
		t.Errorf("%s has not said what it thinks of %s %s", waits.node, waits.typeURL, waits.name)
	}
	return out
}
