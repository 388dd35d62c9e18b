package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/tlsconn"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// bufferBudget bounds the bytes of replies held back or gathered for the cache
// by all exchanges together.
const bufferBudget = 64 << 20

// maxVersions bounds the versions that are watched for answers that are not
// finite.
const maxVersions = 64

// Options are what a Server is made of. Snapshot, Registry and Log are required.
type Options struct {
	Snapshot *snapshot.Snapshot
	Registry *telemetry.Registry
	Tracer   *telemetry.Tracer // nil: no spans
	Log      *slog.Logger
	Shards   int             // event loops; 1 when 0
	Driver   shard.Driver    // how they wait for sockets; shard.Auto when not set
	Workers  int             // goroutines for work too long for a loop; 1 when 0
	Dial     upstream.Dialer // nil: TCP, with the keep-alive of each cluster
	// ListenOn opens a listener's address; nil: TCP.
	ListenOn func(l *snapshot.Listener) (net.Listener, error)
	// OnTransition, which may be nil, is told of every breaker's change of state,
	// on whatever goroutine it happens. It must not block.
	OnTransition func(Transition)
	Models       Models // nil: no model has a say
	Service      string // node.cluster: what health checks are answered with
	Limits       Limits
	// OnRouted, which may be nil, is told of every lease that a request takes, by
	// the version's name and Server.Now's time: for measuring how fast a version
	// is taken back. It must not block.
	OnRouted func(version string, at int64)
}

// Transition is a change of a breaker's state: a key's, or a cluster's when
// Cluster is set.
type Transition struct {
	Key     quadnine.Key
	Cluster string
	State   string // the state entered: "open", "half-open", "closed"
	At      time.Time
}

// Server is the data plane: shards, clusters, policies and the listeners that
// feed them.
type Server struct {
	current  atomic.Pointer[state]
	registry *telemetry.Registry
	tracer   *telemetry.Tracer
	log      *slog.Logger
	dial     upstream.Dialer
	listen   func(l *snapshot.Listener) (net.Listener, error)
	notify   func(Transition)
	models   Models
	onRouted func(version string, at int64)
	h1       h1.Config
	h2       h2.Config

	origin     time.Time
	loops      []*loop
	workers    *shard.Workers
	applying   sync.Mutex
	breakers   map[string]*policy.Breakers // by scope; guarded by applying
	caches     map[string]*policy.Cache    // by scope; guarded by applying
	versions   *policy.Breakers            // of versions that answer here, by model and version; nil without models
	budget     budget
	overload   overload
	secure     *secure.Store
	handshakes handshakes
	unwell     atomic.Bool // health checks are to fail
	files      logFiles
	hostname   string
	address    netip.Addr // of this machine, for callers on it
	service    string

	accepting sync.WaitGroup
	mu        sync.Mutex
	sockets   map[*socket]struct{} // guarded by mu
	closed    bool                 // guarded by mu

	leaving  atomic.Bool   // callers are asked to go elsewhere
	draining atomic.Bool   // no connection is taken
	idle     chan struct{} // a token when a connection or a loop's last exchange ended while draining
}

// New starts a Server's loops. Close ends them.
func New(o Options) (*Server, error) {
	s := &Server{
		registry: o.Registry, tracer: o.Tracer, log: o.Log, dial: o.Dial, listen: o.ListenOn, notify: o.OnTransition,
		models: o.Models, onRouted: o.OnRouted,
		h1: h1.DefaultConfig(), h2: h2.DefaultConfig(), origin: time.Now(),
		workers:  shard.NewWorkers(max(o.Workers, 1), 1024),
		breakers: make(map[string]*policy.Breakers), caches: make(map[string]*policy.Cache), budget: budget{limit: bufferBudget},
		sockets: make(map[*socket]struct{}), idle: make(chan struct{}, 1),
	}
	s.identify(o)
	count := func(c telemetry.CounterID) func() { return func() { s.registry.Count(c, 1) } }
	s.handshakes.turns = tlsconn.NewTurns(runtime.GOMAXPROCS(0))
	s.secure = secure.NewStore(s.log, secure.Events{Read: count(telemetry.CertificatesRead), Failed: count(telemetry.CertificatesFailed)})
	s.overload.onTake = s.tookAction
	failed := func(err error) (*Server, error) {
		s.Close() // workers and more run already
		return nil, err
	}
	if err := s.overload.start(o.Limits); err != nil {
		return failed(err)
	}
	if s.models != nil {
		cfg := policy.DefaultBreakerConfig()
		cfg.MaxKeys, cfg.MaxKeysPerTenant, cfg.MaxTenants = maxVersions, maxVersions, maxVersions
		var err error
		if s.versions, err = policy.NewBreakers(cfg); err != nil {
			return failed(err)
		}
	}
	if s.listen == nil {
		s.listen = listenTCP
	}
	if err := s.Apply(o.Snapshot); err != nil {
		return failed(err)
	}
	for i := range max(o.Shards, 1) {
		sh := shard.New(i, s.origin)
		sh.SetDriver(o.Driver)
		s.loops = append(s.loops, newLoop(s, sh))
		go sh.Run()
	}
	s.gauges()
	return s, nil
}

// now returns the time on the shards' time line, for what runs on goroutines.
func (s *Server) now() int64 { return int64(time.Since(s.origin)) }

// ErrClosed is returned by Serve after Drain or Close, and by Listen after Close.
var ErrClosed = errors.New("server closed")

var errNoListener = errors.New("the snapshot has no listener to serve with")

// Serve accepts connections from ln, which somebody else opened, for the
// snapshot's first listener until Drain or Close, and then returns ErrClosed.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed || s.draining.Load() {
		s.mu.Unlock()
		return errors.Join(ErrClosed, ln.Close())
	}
	st := s.current.Load()
	if len(st.snap.Listeners) == 0 {
		s.mu.Unlock()
		return errors.Join(errNoListener, ln.Close())
	}
	l := st.snap.Listeners[0]
	k := &socket{name: l.Name, address: l.Address, door: &door{ln: ln}}
	s.arrange(k, st.sites[l.Name])
	k.door.owner.Store(k)
	s.sockets[k] = struct{}{}
	s.mu.Unlock()
	return s.accept(k.door)
}

// accept takes d's connections until it is closed.
func (s *Server) accept(d *door) error {
	for pause := time.Duration(0); ; {
		nc, err := d.ln.Accept()
		if err != nil {
			if s.draining.Load() || errors.Is(err, net.ErrClosed) {
				return ErrClosed
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("accept failed, trying again", "in", pause, "err", err,
				"hint", "too many open files means that the limit (ulimit -n) is too low")
			time.Sleep(pause)
			continue
		}
		pause = 0
		if !s.admit(nc) {
			continue
		}
		s.welcome(d.owner.Load(), nc)
	}
}

// Draining reports whether new callers should go elsewhere: after Leave,
// DrainListeners, Drain or Close.
func (s *Server) Draining() bool { return s.leaving.Load() || s.draining.Load() }

// Drain stops accepting, asks every caller to go elsewhere and waits until all
// exchanges are over and all connections closed, or ctx ends. Close still has to
// be called; when it was called meanwhile, the error is ErrClosed.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.closeListeners()
	s.handshakes.hurry()
	for _, l := range s.loops {
		l.post(l.drain)
	}
	for {
		left := s.handshakes.pending.Load() // first: those that end meanwhile are on a loop by then
		for _, l := range s.loops {
			n := make(chan int, 1)
			l.post(func() { n <- len(l.conns) })
			select {
			case c := <-n:
				left += int64(c)
			case <-l.shard.Done():
				return ErrClosed
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-s.idle:
		case <-s.loops[0].shard.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain tells every connection of the loop to finish.
func (l *loop) drain() {
	l.draining = true
	for c := range l.conns {
		c.drain()
	}
}

// errand is a function to run on a loop, for rare things: draining, admin views.
type errand struct {
	mail shard.Mail
	do   func()
}

// Receive runs the errand.
func (e *errand) Receive(*shard.Mail) { e.do() }

func (l *loop) post(do func()) {
	e := &errand{do: do}
	e.mail.To = e
	l.shard.Post(&e.mail)
}

func (s *Server) connClosed(*loop) {
	if s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// Close ends everything at once: connections are dropped. It waits until the
// loops have stopped.
func (s *Server) Close() {
	s.draining.Store(true)
	s.closeListeners()
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return
	}
	s.handshakes.close()
	for _, l := range s.loops {
		l.shard.Shutdown()
		<-l.shard.Done()
		l.pool.Close()
	}
	s.workers.Close()
	s.accepting.Wait()
	s.overload.close()
	s.files.close()
	s.applying.Lock()
	defer s.applying.Unlock()
	for _, c := range s.caches {
		c.Close()
	}
}

func (s *Server) transition(k quadnine.Key, e policy.Event) {
	if s.notify == nil {
		return
	}
	state := policy.StateClosed
	switch e {
	case policy.Opened:
		state = policy.StateOpen
	case policy.HalfOpened:
		state = policy.StateHalfOpen
	}
	s.notify(Transition{Key: k, State: state.String(), At: time.Now()})
}

func (s *Server) clusterTransition(t upstream.Transition) {
	id := telemetry.ClusterBreakerClosed
	switch t.To {
	case "open":
		id = telemetry.ClusterBreakerOpened
	case "half-open":
		id = telemetry.ClusterBreakerHalfOpened
	}
	s.registry.Count(id, 1)
	if s.notify != nil {
		s.notify(Transition{Cluster: t.Cluster, State: t.To, At: time.Now()})
	}
}
