package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/quadnine/quadnine/control"
	"github.com/quadnine/quadnine/xds/bootstrap"
)

// demoSwaps is how often the demo replaces the cluster and the route to it in one
// step.
const demoSwaps = 12

const demoBootstrap = `
node: {id: demo, cluster: demo}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: control}}]}
  lds_config: {ads: {}}
  cds_config: {ads: {}}
static_resources:
  clusters:
  - name: control
    type: STATIC
    load_assignment: {cluster_name: control, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`

const demoListener = `
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: demo
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: demo
      rds: {route_config_name: demo, config_source: {ads: {}, resource_api_version: V3}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// demoSwap is what differs between two configurations: everything has the number
// in its name, so each takes away all that the one before had.
const demoSwap = `
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: app-%[1]d
type: EDS
eds_cluster_config: {service_name: app-%[1]d, eds_config: {ads: {}, resource_api_version: V3}}
---
"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: app-%[1]d
endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}}}]}]
---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: demo
virtual_hosts:
- name: all
  domains: ["*"]
  response_headers_to_add: [{header: {key: x-config, value: "%[1]d"}}]
  routes: [{match: {prefix: /}, route: {cluster: app-%[1]d}}]
`

// xds shows a sidecar that follows a management server.
func (d *demo) xds(ctx context.Context) (err error) {
	dir := filepath.Join(d.dir, "resources")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "listener.yaml"), []byte(demoListener), 0o600), d.swap(dir, 0)); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	s, err := control.Open(control.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	following, stop := context.WithCancel(ctx)
	g := grpc.NewServer()
	s.Register(following, g)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Follow(following) }) // ends with its context
	wg.Go(func() { _ = g.Serve(ln) })         // ends with Stop
	defer wg.Wait()
	defer g.Stop()
	defer stop()

	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	boot, err := bootstrap.Load(bootstrap.Options{YAML: fmt.Sprintf(demoBootstrap, port)})
	if err != nil {
		return err
	}
	side, err := startSidecar(ctx, sidecarConfig{
		managed: managedConfig{boot: boot, stateDir: "none"}, admin: "127.0.0.1:0", level: slog.LevelError + 1, logTo: io.Discard,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, side.stop(5*time.Second)) }()
	if err := d.until(ctx, "the sidecar serving what the management server says", func() bool {
		return side.managed.applier.Ready().Live && len(side.proxy.Addrs("demo")) > 0
	}); err != nil {
		return err
	}
	return d.swapUnderLoad(ctx, dir, side.proxy.Addrs("demo")[0].String())
}

// swap writes configuration n.
func (d *demo) swap(dir string, n int) error {
	_, port, err := net.SplitHostPort(d.apps[n%len(d.apps)].addr)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "swap.yaml")
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, demoSwap, n, port), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// swapUnderLoad replaces the configuration again and again while requests go on.
func (d *demo) swapUnderLoad(ctx context.Context, dir, addr string) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	loading, stop := context.WithCancel(ctx)
	var (
		wg         sync.WaitGroup
		sent, lost atomic.Int64
		inForce    atomic.Int64 // the newest configuration that answered
		changed    = make(chan struct{}, 1)
	)
	for range 4 {
		wg.Go(func() {
			for loading.Err() == nil {
				n, err := demoAsk(ctx, client, addr)
				sent.Add(1)
				if err != nil {
					lost.Add(1)
					continue
				}
				if old := inForce.Load(); n > old && inForce.CompareAndSwap(old, n) {
					select {
					case changed <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	defer wg.Wait()
	defer stop()
	took := make([]time.Duration, 0, demoSwaps)
	for n := 1; n <= demoSwaps; n++ {
		begin := time.Now()
		if err := d.swap(dir, n); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		late := time.After(demoPatience)
		for inForce.Load() < int64(n) {
			select {
			case <-changed:
			case <-late:
				return fmt.Errorf("demo: configuration %d did not come into force within %v", n, demoPatience)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		took = append(took, time.Since(begin))
	}
	stop()
	wg.Wait()
	slices.Sort(took)
	mark := d.goal(lost.Load() == 0, fmt.Sprintf("%d of %d requests lost while the configuration changed", lost.Load(), sent.Load()))
	d.say("xds", "cluster, endpoints and route replaced in one step, %d times, by a management server: %s requests, %d lost · file saved → first request on the new one p50 %s %s",
		demoSwaps, thousands(sent.Load()), lost.Load(), ms(took[len(took)/2]), mark)
	return nil
}

// demoAsk sends a request and returns the number of the configuration that
// routed it.
func demoAsk(ctx context.Context, client *http.Client, addr string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	return strconv.ParseInt(resp.Header.Get("X-Config"), 10, 64)
}
