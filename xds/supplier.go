package xds

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
)

// SupplierOptions are what Suppliers need to know. All but Dial and Log are required.
type SupplierOptions struct {
	Applier *Applier
	Sink    Sink // the Applier, or what stands in front of it
	// Server returns the management server that a grpc_service means.
	Server func(*corev3.GrpcService) (ServerConfig, error)
	Node   *corev3.Node
	Log    *slog.Logger
	Dial   func(ctx context.Context, s ServerConfig) (net.Conn, error) // as in ClientOptions
}

// Suppliers has secrets come from where listeners and clusters say, as long as any of
// them does: each file is followed, and each other stream is kept, once.
type Suppliers struct {
	o    SupplierOptions
	poke chan struct{}
}

// NewSuppliers returns Suppliers that do nothing until Run.
func NewSuppliers(o SupplierOptions) *Suppliers {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Suppliers{o: o, poke: make(chan struct{}, 1)}
	o.Applier.OnSuppliers(func() {
		select {
		case s.poke <- struct{}{}:
		default: // one is under way
		}
	})
	return s
}

// Check says why secrets cannot be had from a source, or nil.
func (o *SupplierOptions) Check(from snapshot.SecretSource) error {
	if from.Stream == "" {
		return nil
	}
	_, err := o.client(from, nil)
	return err
}

// supplying is one source at work.
type supplying struct {
	cancel context.CancelFunc
	again  func() // looks at what is wanted
}

// Run follows the sources until ctx is over, and waits for what it started.
func (s *Suppliers) Run(ctx context.Context) {
	running := make(map[snapshot.SecretSource]supplying)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		wanted := make(map[snapshot.SecretSource]bool)
		for _, from := range s.o.Applier.Suppliers() {
			wanted[from] = true
			if at, ok := running[from]; ok {
				at.again()
				continue
			}
			running[from] = s.start(ctx, from, &all)
		}
		for from, at := range running {
			if !wanted[from] {
				at.cancel()
				delete(running, from)
			}
		}
		select {
		case <-ctx.Done():
			for _, at := range running {
				at.cancel()
			}
			return
		case <-s.poke:
		}
	}
}

// start has secrets come from a source.
func (s *Suppliers) start(ctx context.Context, from snapshot.SecretSource, all *sync.WaitGroup) supplying {
	ctx, cancel := context.WithCancel(ctx)
	sink := &secretSink{applier: s.o.Applier, to: s.o.Sink, of: supplier(from)}
	if from.Path != "" {
		again := make(chan struct{}, 1)
		all.Go(func() {
			dir := cmp.Or(from.Watch, filepath.Dir(from.Path))
			f := &file{kind: KindSecret, path: from.Path, sink: sink, log: s.o.Log, wanted: func() []string { return sink.Wanted(KindSecret) }}
			for {
				err := follow(ctx, f, dir, again)
				if err == nil {
					return
				}
				s.o.Log.Error("secrets of a file are not followed", "path", from.Path, "err", err, "hint", "the directory has to exist; tried again")
				select {
				case <-ctx.Done():
					return
				case <-time.After(rereadEvery):
				}
			}
		})
		return supplying{cancel, func() {
			select {
			case again <- struct{}{}:
			default:
			}
		}}
	}
	c, err := s.o.client(from, sink)
	if err != nil { // it was checked: the bootstrap does not change
		s.o.Log.Error("secrets cannot be asked for", "source", streamName(from.Stream), "err", err)
		return supplying{cancel, func() {}}
	}
	all.Go(func() {
		if err := c.Run(ctx); err != nil {
			s.o.Log.Error("stream of secrets stopped", "source", streamName(from.Stream), "err", err)
		}
	})
	return supplying{cancel, c.Resubscribe}
}

// client returns a client that asks a source for secrets.
func (o *SupplierOptions) client(from snapshot.SecretSource, sink Sink) (*Client, error) {
	m := new(corev3.ApiConfigSource)
	if err := proto.Unmarshal([]byte(from.Stream), m); err != nil {
		return nil, err
	}
	if len(m.GetGrpcServices()) != 1 {
		return nil, fmt.Errorf("there are %d grpc_services, want 1", len(m.GetGrpcServices()))
	}
	server, err := o.Server(m.GetGrpcServices()[0])
	if err != nil {
		return nil, err
	}
	variant := VariantSotw
	if m.GetApiType() == corev3.ApiConfigSource_DELTA_GRPC {
		variant = VariantDelta
	}
	return NewClient(ClientOptions{
		Variant: variant, Servers: []ServerConfig{server}, Node: o.Node, SetNodeOnFirstOnly: m.GetSetNodeOnFirstMessageOnly(),
		Sink: sink, Log: o.Log, Elsewhere: []Kind{KindCluster, KindListener}, Secrets: true, Dial: o.Dial,
	}), nil
}

// streamName names a stream for people.
func streamName(encoded string) string {
	m := new(corev3.ApiConfigSource)
	if proto.Unmarshal([]byte(encoded), m) != nil || len(m.GetGrpcServices()) == 0 {
		return "?"
	}
	s := m.GetGrpcServices()[0]
	return cmp.Or(s.GetEnvoyGrpc().GetClusterName(), s.GetGoogleGrpc().GetTargetUri())
}

// streamSecret reports whether a stream is opened with what nobody is shown.
func streamSecret(encoded string) bool {
	m := new(corev3.ApiConfigSource)
	if proto.Unmarshal([]byte(encoded), m) != nil {
		return true
	}
	shown := proto.CloneOf(m)
	compile.Redact(shown.ProtoReflect())
	return !proto.Equal(m, shown)
}

// secretSink is a Sink for secrets of one supplier: to the configuration their names
// say whose they are.
type secretSink struct {
	applier *Applier
	to      Sink
	of      string
}

func (s *secretSink) key(name string) string { return s.of + supplierEnd + name }

// Update implements Sink.
func (s *secretSink) Update(u Update) []Rejected {
	u.Nonce, u.of = "", s.of // it is not the aggregated stream's
	resources := make([]Resource, len(u.Resources))
	for i, r := range u.Resources {
		r.Name = s.key(r.Name)
		resources[i] = r
	}
	removed := make([]string, len(u.Removed))
	for i, name := range u.Removed {
		removed[i] = s.key(name)
	}
	errs := make([]ResourceError, len(u.Errors))
	for i, e := range u.Errors {
		e.Name = s.key(e.Name)
		errs[i] = e
	}
	u.Resources, u.Removed, u.Errors = resources, removed, errs
	rejected := s.to.Update(u)
	for i := range rejected {
		rejected[i].Name = secretName(rejected[i].Name)
	}
	return rejected
}

// Wanted implements Sink.
func (s *secretSink) Wanted(k Kind) (out []string) {
	if k != KindSecret {
		return nil
	}
	s.applier.mu.Lock()
	defer s.applier.mu.Unlock()
	for _, key := range sortedKeys(s.applier.wantedSecrets()) {
		if secretIn(key, s.of) {
			out = append(out, secretName(key))
		}
	}
	return out
}

// Versions implements Sink.
func (s *secretSink) Versions(k Kind, names []string) map[string]string {
	if k != KindSecret {
		return nil
	}
	out := make(map[string]string)
	for key, version := range s.applier.Versions(k, s.keys(names)) {
		if secretIn(key, s.of) {
			out[secretName(key)] = version
		}
	}
	return out
}

// FetchTimeouts implements Sink.
func (s *secretSink) FetchTimeouts(k Kind, names []string) map[string]time.Duration {
	out := make(map[string]time.Duration)
	for key, d := range s.applier.FetchTimeouts(k, s.keys(names)) {
		if secretIn(key, s.of) {
			out[secretName(key)] = d
		}
	}
	return out
}

func (s *secretSink) keys(names []string) []string {
	if names == nil {
		return nil
	}
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = s.key(name)
	}
	return out
}

// Missing implements Sink.
func (s *secretSink) Missing(k Kind, name string) { s.to.Missing(k, s.key(name)) }

// Connected implements Sink: the Client logs it, and /xds/status is about the
// aggregated stream.
func (s *secretSink) Connected(string, bool, error) {}

var _ Sink = (*secretSink)(nil)
