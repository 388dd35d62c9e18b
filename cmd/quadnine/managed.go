package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
	"github.com/quadnine/quadnine/xds"
	"github.com/quadnine/quadnine/xds/bootstrap"
	"github.com/quadnine/quadnine/xds/compile"
)

// managed is the side of a sidecar that follows a management server: the
// configuration it keeps, the stream it comes over, and what is told about both.
type managed struct {
	boot     *bootstrap.Bootstrap
	applier  *xds.Applier
	registry *telemetry.Registry
	client   *xds.Client // nil: everything is static
	secrets  *xds.Suppliers
	csds     *grpc.Server // nil: not served
	csdsOn   net.Listener
	lock     *os.File // of the state directory; nil: there is none
}

// managedConfig is what the command line says of it.
type managedConfig struct {
	boot     *bootstrap.Bootstrap
	stateDir string // "": in the user's cache directory; "none": nowhere
	strict   bool   // --reject-unknown-dynamic-fields
	noEmpty  bool   // --refuse-empty
	csds     string // address to serve the client status discovery service on; "": none
}

// startManaged applies the bootstrap's static resources and the last good
// configuration. follow has to run for what comes after.
func startManaged(ctx context.Context, cfg managedConfig, plane xds.Plane, reg *telemetry.Registry, log *slog.Logger) (*managed, error) {
	m := &managed{boot: cfg.boot, registry: reg}
	if err := cfg.boot.Identified(); err != nil {
		return nil, usage(err)
	}
	compiler := compile.New()
	compiler.Strict = cfg.strict
	o := xds.ApplierOptions{Plane: plane, Compiler: compiler, Strict: cfg.boot.Strict, RefuseEmpty: cfg.noEmpty, Log: log}
	var err error
	if o.Layers, err = layersOf(cfg.boot, compiler); err != nil {
		return nil, usage(err)
	}
	if o.Static, err = staticOf(cfg.boot); err != nil {
		return nil, usage(err)
	}
	o.Dynamic = dynamicOf(cfg.boot)
	if len(o.Dynamic) > 0 && cfg.stateDir != "none" {
		if o.StateDir, err = stateDir(cfg.stateDir, cfg.boot); err != nil {
			if cfg.stateDir != "" {
				return nil, usage(err)
			}
			log.Warn("the last good configuration is not kept", "err", err, "hint", "name a directory with --state-dir")
		} else if m.lock, err = lockDir(o.StateDir); err != nil {
			log.Warn("the last good configuration is neither read nor kept", "dir", o.StateDir, "err", err, "hint", "give each process a --state-dir of its own")
			o.StateDir = ""
		}
	}
	for _, w := range cfg.boot.Warnings {
		log.Warn("bootstrap", "where", w.Where, "field", w.Path, "what", w.What)
	}
	supply := xds.SupplierOptions{
		Node: xds.Node(cfg.boot.Node, version(), xds.Extensions()), Log: log,
		Server: func(s *corev3.GrpcService) (xds.ServerConfig, error) {
			return xds.Server(s, cfg.boot.Cluster, cfg.boot.Secret)
		},
	}
	o.Supplier = supply.Check
	m.applier = xds.NewApplier(o)
	supply.Applier, supply.Sink = m.applier, countedSink{m.applier, reg}
	m.secrets = xds.NewSuppliers(supply)
	m.instrument()
	if err := m.applier.Start(); err != nil {
		return nil, usage(errors.Join(err, m.close()))
	}
	if cfg.boot.ADS != nil {
		if m.client, err = m.newClient(log); err != nil {
			return nil, usage(errors.Join(err, m.close()))
		}
		m.applier.OnWanted(m.client.Resubscribe)
	}
	if cfg.csds != "" {
		var lc net.ListenConfig
		if m.csdsOn, err = lc.Listen(ctx, "tcp", cfg.csds); err != nil {
			return nil, errors.Join(fmt.Errorf("--csds: %w", err), m.close())
		}
		m.csds = grpc.NewServer()
		xds.RegisterCSDS(m.csds, m.applier, cfg.boot.Node)
	}
	return m, nil
}

// countedSink is the configuration, with its updates counted.
type countedSink struct {
	*xds.Applier
	registry *telemetry.Registry
}

// Update implements xds.Sink.
func (c countedSink) Update(u xds.Update) []xds.Rejected {
	bad := c.Applier.Update(u)
	if len(bad) > 0 {
		c.registry.Count(telemetry.XDSRejected[u.Kind], 1)
	} else {
		c.registry.Count(telemetry.XDSAccepted[u.Kind], 1)
	}
	return bad
}

// fileSink is the configuration to a file that is followed: what its resources
// name may have to be asked for.
type fileSink struct {
	countedSink
	client *xds.Client // nil: nothing is asked for
}

// Update implements xds.Sink.
func (f fileSink) Update(u xds.Update) []xds.Rejected {
	bad := f.countedSink.Update(u)
	if f.client != nil {
		f.client.Resubscribe()
	}
	return bad
}

// instrument registers what callbacks read.
func (m *managed) instrument() {
	m.registry.Gauge(telemetry.XDSConnected, func() float64 {
		if m.client != nil && m.client.Status() != nil && m.client.Status().Connected {
			return 1
		}
		return 0
	})
	m.registry.Gauge(telemetry.XDSStaleAge, func() float64 { return m.applier.Ready().Age.Seconds() })
	perAPI := func(id telemetry.GaugesID, read func(xds.APIStatus) int) {
		m.registry.Gauges(id, func(yield func(telemetry.Sample) bool) {
			for _, s := range m.applier.APIs() {
				if !yield(telemetry.Sample{Labels: []string{s.API}, Value: float64(read(s))}) {
					return
				}
			}
		})
	}
	perAPI(telemetry.XDSResources, func(s xds.APIStatus) int { return s.Resources })
	perAPI(telemetry.XDSResourcesRejected, func(s xds.APIStatus) int { return s.Bad })
	perAPI(telemetry.XDSIgnoredFields, func(s xds.APIStatus) int { return s.Ignored })
	perAPI(telemetry.XDSUnknownFields, func(s xds.APIStatus) int { return s.Unknown })
}

// newClient returns the client of the bootstrap's management servers.
func (m *managed) newClient(log *slog.Logger) (*xds.Client, error) {
	b := m.boot
	o := xds.ClientOptions{
		Variant: xds.VariantSotw, Node: xds.Node(b.Node, version(), xds.Extensions()), SetNodeOnFirstOnly: b.ADS.NodeOnFirstOnly,
		Sink: countedSink{m.applier, m.registry}, Log: log, FetchTimeout: make(map[xds.Kind]time.Duration),
	}
	if b.ADS.Delta {
		o.Variant = xds.VariantDelta
	}
	for kind, from := range map[xds.Kind]*bootstrap.Source{xds.KindCluster: b.CDS, xds.KindListener: b.LDS} {
		if from == nil || !from.ADS {
			o.Elsewhere = append(o.Elsewhere, kind)
			continue
		}
		o.FetchTimeout[kind] = from.FetchTimeout
	}
	var err error
	if o.Servers, err = serversOf(b); err != nil {
		return nil, err
	}
	return xds.NewClient(o), nil
}

// serversOf returns the management servers of a bootstrap.
func serversOf(b *bootstrap.Bootstrap) (out []xds.ServerConfig, err error) {
	if b.ADS == nil {
		return nil, nil
	}
	for i, s := range b.ADS.Services {
		server, err := xds.Server(s, b.Cluster, b.Secret)
		if err != nil {
			return nil, fmt.Errorf("bootstrap: dynamic_resources.ads_config.grpc_services[%d]: %w", i, err)
		}
		out = append(out, server)
	}
	return out, nil
}

// follow keeps the stream until ctx ends.
func (m *managed) follow(ctx context.Context, log *slog.Logger) {
	if m.csds != nil {
		go func() {
			if err := m.csds.Serve(m.csdsOn); err != nil {
				log.Error("client status service stopped", "err", err)
			}
		}()
		defer m.csds.Stop()
	}
	var files sync.WaitGroup
	defer files.Wait()
	files.Go(func() { m.secrets.Run(ctx) })
	for kind, from := range map[xds.Kind]*bootstrap.Source{xds.KindCluster: m.boot.CDS, xds.KindListener: m.boot.LDS} {
		if from == nil || from.Path == "" {
			continue
		}
		files.Go(func() {
			if err := xds.FollowFile(ctx, kind, from.Path, fileSink{countedSink{m.applier, m.registry}, m.client}, log); err != nil {
				log.Error("configuration file is not followed", "path", from.Path, "err", err)
			}
		})
	}
	if m.client == nil {
		<-ctx.Done()
		return
	}
	if err := m.client.Run(ctx); err != nil {
		log.Error("management stream stopped", "err", err)
	}
}

// note says what is not as it should be, for /ready.
func (m *managed) note() string {
	r := m.applier.Ready()
	if r.Stale {
		return "stale config, age " + r.Age.Round(time.Second).String()
	}
	return r.Why
}

func (m *managed) close() error {
	err := m.applier.Close()
	if m.lock != nil {
		err = errors.Join(err, m.lock.Close())
	}
	return err
}

// staticOf returns the bootstrap's own resources. The clusters that only lead to
// management servers are kept out of the data plane: they may use TLS, which is
// the stream's.
func staticOf(b *bootstrap.Bootstrap) ([]xds.StaticResource, error) {
	servers := make(map[string]bool)
	if b.ADS != nil {
		for _, s := range b.ADS.Services {
			servers[s.GetEnvoyGrpc().GetClusterName()] = true
		}
	}
	var out []xds.StaticResource
	add := func(kind xds.Kind, name string, m proto.Message, aside bool) error {
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		out = append(out, xds.StaticResource{Kind: kind, Name: name, Body: wire, Aside: aside})
		return err
	}
	for i, c := range b.Clusters {
		if c.GetName() == "" {
			return nil, fmt.Errorf("bootstrap: static_resources.clusters[%d].name is empty", i)
		}
		if err := add(xds.KindCluster, c.GetName(), c, servers[c.GetName()]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Secrets)) {
		if err := add(xds.KindSecret, name, b.Secrets[name], false); err != nil {
			return nil, err
		}
	}
	for i, l := range b.Listeners {
		name := l.GetName()
		if name == "" {
			name = fmt.Sprintf("static_%d", i) // Envoy makes up a name too
		}
		if err := add(xds.KindListener, name, l, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dynamicOf returns the kinds that a management server is asked for.
func dynamicOf(b *bootstrap.Bootstrap) (out []xds.Kind) {
	if b.CDS != nil {
		out = append(out, xds.KindCluster)
	}
	if b.LDS != nil {
		out = append(out, xds.KindListener)
	}
	if b.ADS == nil {
		return out
	}
	out = append(out, xds.KindEndpoints, xds.KindRoutes, xds.KindSecret)
	for _, l := range b.Layers {
		if l.RTDS != "" {
			return append(out, xds.KindRuntime)
		}
	}
	return out
}

// layersOf returns the runtime's layers. As in Envoy, a bootstrap without any has
// one that the admin port changes.
func layersOf(b *bootstrap.Bootstrap, c *compile.Compiler) (out []xds.Layer, err error) {
	if len(b.Layers) == 0 {
		return []xds.Layer{{Name: "admin", Admin: true}}, nil
	}
	for _, l := range b.Layers {
		layer := xds.Layer{Name: l.Name, RTDS: l.RTDS, Fetch: l.FetchTimeout, Admin: l.Admin}
		if l.Static != nil {
			wire, err := proto.Marshal(&runtimev3.Runtime{Name: l.Name, Layer: l.Static})
			if err != nil {
				return nil, err
			}
			compiled, _, err := c.Runtime(wire)
			if err != nil {
				return nil, fmt.Errorf("bootstrap: layered_runtime layer %q: %w", l.Name, err)
			}
			layer.Values = compiled.Values
		}
		out = append(out, layer)
	}
	return out, nil
}

// stateDir returns the directory for the last good configuration of this node.
func stateDir(dir string, b *bootstrap.Bootstrap) (string, error) {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		id := sha256.Sum256([]byte(b.Node.GetCluster() + "\x00" + b.Node.GetId()))
		dir = filepath.Join(cache, "quadnine", "xds-"+hex.EncodeToString(id[:8]))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("--state-dir: %w", err)
	}
	return dir, nil
}

// lockDir makes a state directory this process's own until the file is closed, or
// the process ends in whatever way.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process has the directory")
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var _ xds.Plane = (*proxy.Server)(nil)
