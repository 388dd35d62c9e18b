package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	status "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"github.com/quadnine/quadnine/policy"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
)

// Options are what a Server works with.
type Options struct {
	Dir    string
	Strict bool         // as Loader.Strict
	Log    *slog.Logger // nil: slog.Default
	Pool   *Pool        // nil: one with the defaults
}

// Server serves a directory. Make one with Open.
type Server struct {
	dir    string
	log    *slog.Logger
	began  time.Time
	loader Loader     // of whoever holds loading
	load   sync.Mutex // one reload at a time
	pool   *Pool

	mu      sync.Mutex // guards everything below
	set     *Set
	loaded  time.Time // when set was
	problem error     // why the newest files are not served; nil: they are
	failing time.Time // since when there is a problem
	groups  map[string]*groupState
	lanes   map[laneKey]*lane
	made    uint64 // lanes since start
	streams map[streamID]*stream
	pending map[any]*stream // whose request it is, until it is watched
	nodes   map[string]*node
	wake    chan struct{} // closed, and made anew, when a stream moves on
	counts  counts
}

// counts only grow.
type counts struct {
	responses, acks, nacks [kinds]uint64
	reloads, failures      uint64
}

// groupState is a group as it is served.
type groupState struct{ history [kinds]map[string]*history }

// Open reads the directory and is ready to serve it. It fails when the directory
// is not valid as a whole: there is nothing yet that could be served instead.
func Open(o Options) (*Server, error) {
	s := &Server{
		dir: o.Dir, log: o.Log, began: time.Now(), loader: Loader{Strict: o.Strict}, groups: make(map[string]*groupState), lanes: make(map[laneKey]*lane),
		streams: make(map[streamID]*stream), pending: make(map[any]*stream), nodes: make(map[string]*node), wake: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.pool = o.Pool; s.pool == nil {
		var err error
		if s.pool, err = NewPool(policy.DefaultPoolConfig()); err != nil {
			return nil, err
		}
	}
	if err := s.Reload(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

// Register makes g serve the aggregated stream, the client status of every node
// and the pool of judges, until ctx ends.
func (s *Server) Register(ctx context.Context, g grpc.ServiceRegistrar) {
	server := xds.NewServer(ctx, s, xds.CallbackFuncs{
		StreamOpenFunc: func(ctx context.Context, id int64, _ string) error { return s.opened(ctx, streamID{id: id}) },
		DeltaStreamOpenFunc: func(ctx context.Context, id int64, _ string) error {
			return s.opened(ctx, streamID{delta: true, id: id})
		},
		StreamClosedFunc:        func(id int64, _ *core.Node) { s.closed(streamID{id: id}) },
		DeltaStreamClosedFunc:   func(id int64, _ *core.Node) { s.closed(streamID{delta: true, id: id}) },
		StreamRequestFunc:       s.onRequest,
		StreamDeltaRequestFunc:  s.onDeltaRequest,
		StreamResponseFunc:      s.onResponse,
		StreamDeltaResponseFunc: s.onDeltaResponse,
	}, sotw.WithOrderedADS())
	discovery.RegisterAggregatedDiscoveryServiceServer(g, server)
	status.RegisterClientStatusDiscoveryServiceServer(g, &csds{s: s})
	modelv1.RegisterEvidenceServiceServer(g, &judges{pool: s.pool, done: ctx.Done()})
}

// CreateWatch implements cache.ConfigWatcher.
func (s *Server) CreateWatch(r *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	return s.watch(&watch{request: r, sub: sub, response: out}, r, r.GetTypeUrl())
}

// CreateDeltaWatch implements cache.ConfigWatcher.
func (s *Server) CreateDeltaWatch(r *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	return s.watch(&watch{deltaRequest: r, sub: sub, deltaResponse: out}, r, r.GetTypeUrl())
}

// Fetch implements cache.ConfigFetcher: resources are only streamed.
func (s *Server) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errors.New("control: resources are not to be fetched: open an aggregated stream")
}

var _ cache.Cache = (*Server)(nil)

// watch answers a request as soon as there is something for it.
func (s *Server) watch(w *watch, request any, typeURL string) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pending[request]
	delete(s.pending, request)
	if st == nil {
		return nil, errors.New("control: a request of no stream")
	}
	kind, ok := KindOf(typeURL)
	if !ok {
		// Ending the stream would take the rest from the node as well.
		s.log.Info("a type was asked for that is not served", "node", st.node.id, "type", typeURL)
		return func() {}, nil
	}
	has := &st.kinds[kind]
	first := !has.asked
	if first {
		has.asked, has.held, has.sent = true, s.newcomer(st, kind), make(map[string]string)
	}
	w.stream, w.kind = st, kind
	has.names = maps.Collect(keysOf(w.sub.SubscribedResources()))
	has.open, has.fired = nil, false
	l, err := s.laneOf(st, kind)
	if err != nil {
		return nil, err
	}
	if err := w.start(l, first); err != nil {
		return nil, err
	}
	if has.fired = w.forward(); !has.fired {
		has.open = w
	}
	s.moved()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if has.open == w {
			has.open = nil
			w.stop()
		}
	}, nil
}

func keysOf(m map[string]struct{}) func(yield func(string, bool) bool) {
	return func(yield func(string, bool) bool) {
		for k := range m {
			if !yield(k, true) {
				return
			}
		}
	}
}

// moved tells whoever waits that a stream has moved on.
func (s *Server) moved() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// newcomer returns what a stream is not to get: versions that its node has
// rejected, and those that others have while there is one that was accepted. A
// node that is known to have accepted a version keeps it.
func (s *Server) newcomer(st *stream, kind Kind) holds {
	out := make(holds)
	for name, h := range s.groups[st.group].history[kind] {
		if h.bad == nil || st.node.accepted(kind, name) == h.latest.Version {
			continue
		}
		if h.bad.nodes[st.node.id] || h.last() != nil && !h.bad.local {
			out[name] = h.latest.Version
		}
	}
	return out
}

// laneOf returns the lane that a stream is on.
func (s *Server) laneOf(st *stream, kind Kind) (*lane, error) {
	g := s.groups[st.group]
	held := st.kinds[kind].held
	for name, version := range held {
		if h := g.history[kind][name]; h == nil || h.latest.Version != version {
			delete(held, name)
		}
	}
	key := laneKey{st.group, kind, held.key()}
	if l := s.lanes[key]; l != nil {
		return l, nil
	}
	s.made++
	prefix := strconv.FormatInt(s.began.UnixMilli(), 36) + "." + strconv.FormatUint(s.made, 10) + "."
	l := newLane(key, maps.Clone(held), prefix)
	if err := l.update(sortedKeys(g.history[kind]), g.history[kind]); err != nil {
		return nil, err
	}
	s.lanes[key] = l
	return l, nil
}

// relane moves the open watches of a kind to the lanes that they belong to, and
// drops the lanes that nobody is on.
func (s *Server) relane(kind Kind) {
	used := make(map[*lane]bool)
	for _, st := range s.streams {
		has := &st.kinds[kind]
		if has.open == nil {
			continue
		}
		l, err := s.laneOf(st, kind)
		if err == nil && l != has.open.lane {
			has.open.stop()
			err = has.open.start(l, false)
		}
		if err != nil {
			s.log.Error("a stream gets no more updates of a type", "node", st.node.id, "type", kind.String(), "err", err)
			has.open = nil
			continue
		}
		used[l] = true
		s.forward(has)
	}
	for key, l := range s.lanes {
		if key.kind == kind && key.holds != "" && !used[l] || s.groups[key.group] == nil {
			delete(s.lanes, key)
		}
	}
}

// forward passes on the response of a subscription's watch, if there is one.
func (s *Server) forward(has *subscription) {
	if has.open != nil && has.open.forward() {
		has.open, has.fired = nil, true
	}
}
