package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

// server is a go-control-plane server with a snapshot cache.
type server struct {
	cache cache.SnapshotCache
	grpc  *grpc.Server

	mu    sync.Mutex
	ids   map[stream]string // guarded by mu; the node of each stream
	nodes map[string]*node  // guarded by mu
}

// stream names a stream: both variants count from 1.
type stream struct {
	delta bool
	id    int64
}

// node is what the server knows of a proxy.
type node struct {
	first       time.Time       // the first send callback since forget
	last        time.Time       // the last message in either direction
	outstanding map[string]bool // type URLs and nonces of responses without an answer
	rejected    string          // the reason of the last rejection
}

// startServer serves at addr.
func startServer(ctx context.Context, addr string) (*server, error) {
	s := &server{cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil), ids: make(map[stream]string), nodes: make(map[string]*node)}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("management server: %w", err)
	}
	s.grpc = grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, serverv3.NewServer(ctx, s.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error {
			s.asked(stream{false, id}, r.GetNode(), r.GetTypeUrl()+r.GetResponseNonce(), r.GetErrorDetail())
			return nil
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			s.asked(stream{true, id}, r.GetNode(), r.GetTypeUrl()+r.GetResponseNonce(), r.GetErrorDetail())
			return nil
		},
		StreamResponseFunc: func(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			s.sends(stream{false, id}, r.GetTypeUrl()+r.GetNonce())
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			s.sends(stream{true, id}, r.GetTypeUrl()+r.GetNonce())
		},
	}))
	go func() { _ = s.grpc.Serve(l) }() // ends with Stop
	return s, nil
}

// node returns what is known of a node. s.mu is held.
func (s *server) node(name string) *node {
	n := s.nodes[name]
	if n == nil {
		n = &node{outstanding: make(map[string]bool)}
		s.nodes[name] = n
	}
	return n
}

// asked notes a request.
func (s *server) asked(at stream, from *corev3.Node, nonce string, bad *statuspb.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from.GetId() != "" {
		s.ids[at] = from.GetId()
	}
	n := s.node(s.ids[at])
	n.last = time.Now()
	delete(n.outstanding, nonce)
	if bad != nil {
		n.rejected = bad.GetMessage()
	}
}

// sends notes the send callback.
func (s *server) sends(at stream, nonce string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.node(s.ids[at])
	n.last = now
	n.outstanding[nonce] = true
	if n.first.IsZero() {
		n.first = now
	}
}

// set gives a node its resources.
func (s *server) set(ctx context.Context, name string, snapshot *cache.Snapshot) error {
	return s.cache.SetSnapshot(ctx, name, snapshot)
}

// forget makes the next send callback the first.
func (s *server) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node(name).first = time.Time{}
}

// firstSent returns when the first send callback since forget was.
func (s *server) firstSent(name string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.node(name).first
	return at, !at.IsZero()
}

// errRejected says that a proxy did not take what every proxy of the table has to.
var errRejected = errors.New("rejected")

// quiet waits until a node has answered everything and the stream was silent for
// d. It fails when the node rejected something.
func (s *server) quiet(ctx context.Context, name string, d time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sampleWithin, errors.New("responses stay unanswered"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		n := s.node(name)
		calm, bad := len(n.outstanding) == 0 && time.Since(n.last) > d, n.rejected
		s.mu.Unlock()
		switch {
		case bad != "":
			return fmt.Errorf("%w: %s", errRejected, bad)
		case calm:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
