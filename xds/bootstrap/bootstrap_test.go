package bootstrap

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

func load(t *testing.T, yaml string, change ...func(*Options)) (*Bootstrap, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Path: path}
	for _, f := range change {
		f(&o)
	}
	return Load(o)
}

const minimal = `
node: {id: n, cluster: c}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transportApiVersion: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
    set_node_on_first_message_only: true
  lds_config: {ads: {}, initial_fetch_timeout: 0s}
  cds_config: {ads: {}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 18000}}}}]}]}
layered_runtime:
  layers:
  - {name: static, static_layer: {a: {b: 3}}}
  - {name: rtds, rtds_layer: {name: rt, rtds_config: {ads: {}, initial_fetch_timeout: 2s}}}
  - {name: admin, admin_layer: {}}
`

func TestWhatIsUsed(t *testing.T) {
	b, err := load(t, minimal, func(o *Options) { o.ServiceNode, o.ServiceZone, o.Strict = "m", "z", true })
	if err != nil {
		t.Fatal(err)
	}
	if b.Node.GetId() != "m" || b.Node.GetCluster() != "c" || b.Node.GetLocality().GetZone() != "z" {
		t.Errorf("node %v: the command line's id and zone belong over the file's", b.Node)
	}
	if b.Admin != "127.0.0.1:9901" {
		t.Errorf("admin %q", b.Admin)
	}
	if !b.ADS.Delta || !b.ADS.NodeOnFirstOnly || len(b.ADS.Services) != 1 {
		t.Errorf("ads %+v", b.ADS)
	}
	if !b.LDS.ADS || b.LDS.FetchTimeout != 0 || b.CDS.FetchTimeout != 15*time.Second {
		t.Errorf("lds %+v cds %+v", b.LDS, b.CDS)
	}
	if c := b.Cluster("xds"); len(c.GetLoadAssignment().GetEndpoints()) != 1 || b.Cluster("other") != nil {
		t.Errorf("the server's cluster %v", c)
	}
	if len(b.Layers) != 3 || b.Layers[0].Static.GetFields()["a"].GetStructValue().GetFields()["b"].GetNumberValue() != 3 || b.Layers[1].RTDS != "rt" || b.Layers[1].FetchTimeout != 2*time.Second || !b.Layers[2].Admin {
		t.Errorf("layers %+v", b.Layers)
	}
}

// TestMerge: --config-yaml lies over the file.
func TestMerge(t *testing.T) {
	b, err := load(t, minimal, func(o *Options) { o.YAML = "admin: {address: {pipe: {path: /run/a.sock}}}\nnode: {cluster: d}" })
	if err != nil {
		t.Fatal(err)
	}
	if b.Admin != "unix:/run/a.sock" || b.Node.GetCluster() != "d" || b.Node.GetId() != "n" {
		t.Errorf("admin %q node %v", b.Admin, b.Node)
	}
}

func TestBadBootstraps(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty":            {"", "b.yaml: is empty"},
		"no YAML":          {"a: [", "b.yaml:1: did not find expected node content"},
		"a list":           {"[]", "b.yaml:1: the document is not a mapping"},
		"wrong type":       {"node: {id: [1]}", "b.yaml:1: node.id is not a single value: want string"},
		"number":           {"admin: {address: {socket_address: {address: a, port_value: x}}}", `invalid value for uint32`},
		"twice":            {"node: {}\nnode: {}", "b.yaml:2: node stands there twice"},
		"no ads_config":    {"dynamic_resources: {lds_config: {ads: {}}}", "dynamic_resources.ads_config is missing"},
		"REST":             {"dynamic_resources: {ads_config: {api_type: REST, transport_api_version: V3}}", "has api_type REST: use GRPC or DELTA_GRPC"},
		"v2":               {"dynamic_resources: {ads_config: {api_type: GRPC}}", "transport_api_version AUTO: only V3 is spoken"},
		"no server":        {"dynamic_resources: {ads_config: {api_type: GRPC, transport_api_version: V3}}", "has no grpc_services"},
		"unknown cluster":  {"dynamic_resources: {ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: q}}]}}", `names cluster "q"`},
		"own source":       {"dynamic_resources: {cds_config: {api_config_source: {api_type: GRPC}}}", "cds_config is an api_config_source of its own"},
		"disk layer":       {"layered_runtime: {layers: [{name: d, disk_layer: {}}]}", "layers[0].disk_layer is not supported"},
		"layer of no kind": {"layered_runtime: {layers: [{name: d}]}", "layers[0] has no kind"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v\nwant  %s", err, c.want)
			}
		})
	}
}

// TestIdentified: a management server is told who asks.
func TestIdentified(t *testing.T) {
	for node, want := range map[string]bool{"{id: n, cluster: c}": true, "{id: n}": false, "{cluster: c}": false, "{}": false} {
		text := strings.Replace(minimal, "{id: n, cluster: c}", node, 1)
		b, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Identified(); (err == nil) != want {
			t.Errorf("node %s: %v", node, err)
		}
		if b, err = load(t, text, func(o *Options) { o.ServiceNode, o.ServiceCluster = "n", "c" }); err != nil || b.Identified() != nil {
			t.Errorf("node %s of the command line: %v", node, err)
		}
	}
	if b, err := load(t, "static_resources: {}"); err != nil || b.Identified() != nil {
		t.Errorf("without a server: %v", err)
	}
}

// TestRateLimitIsNamed: it would be a promise that nobody keeps.
func TestRateLimitIsNamed(t *testing.T) {
	b, err := load(t, strings.Replace(minimal, "api_type: DELTA_GRPC", "api_type: DELTA_GRPC\n    rate_limit_settings: {fill_rate: 1}", 1))
	if err != nil || len(b.Warnings) != 1 || b.Warnings[0].Path != "dynamic_resources.ads_config.rate_limit_settings" {
		t.Errorf("%+v, %v", b, err)
	}
}

// TestUnknownIsNamed: with line and path; strict refuses it.
func TestUnknownIsNamed(t *testing.T) {
	text := minimal + "overload_manager: {refresh_interval: 1s}\nnonsense: 1\nbootstrap_extensions: [{name: a, typed_config: {\"@type\": type.googleapis.com/no.such.Type}}]\n"
	b, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range b.Warnings {
		_, line, _ := strings.Cut(w.String(), "b.yaml:")
		got = append(got, "b.yaml:"+line)
	}
	slices.Sort(got)
	want := []string{
		"b.yaml:22: overload_manager.refresh_interval has no effect: memory is looked at ten times a second while there is traffic",
		"b.yaml:23: nonsense is no field of envoy.config.bootstrap.v3.Bootstrap: it is ignored",
		"b.yaml:24: bootstrap_extensions has no effect: bootstrap extensions are Envoy's own",
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := load(t, text, func(o *Options) { o.Strict = true }); err == nil || strings.Count(err.Error(), "refused because of --strict") != 3 {
		t.Errorf("strict: %v", err)
	}
}

// TestCapturedBootstraps: what Envoy Gateway, Kuma and Istio start Envoy with.
// Istio's stats_tags have a lookahead, which is no reason to refuse them.
func TestCapturedBootstraps(t *testing.T) {
	for file, want := range map[string]string{"envoy-gateway.yaml": "xds_cluster", "envoy-gateway.json": "xds_cluster", "kuma.yaml": "system_ads", "istio.json": "xds-grpc"} {
		b, err := Load(Options{Path: "testdata/" + file})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if b.ADS == nil || !b.ADS.Delta || b.LDS == nil || b.CDS == nil {
			t.Errorf("%s: ads %+v lds %+v cds %+v", file, b.ADS, b.LDS, b.CDS)
			continue
		}
		if got := b.ADS.Services[0].GetEnvoyGrpc().GetClusterName(); got != want {
			t.Errorf("%s: management server %q, want %q", file, got, want)
		}
		if len(b.Cluster(want).GetLoadAssignment().GetEndpoints()) == 0 {
			t.Errorf("%s: no endpoint of %s", file, want)
		}
	}
}

// used are the bootstrap's fields that Load reads.
var used = []string{"node", "static_resources", "dynamic_resources", "layered_runtime", "admin", "overload_manager"}

// TestEveryFieldIsUsedOrExplained: a field of Envoy's that is new is noticed here.
func TestEveryFieldIsUsedOrExplained(t *testing.T) {
	fields := new(bootstrapv3.Bootstrap).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if name := string(f.Name()); slices.Contains(used, name) == (unused[string(f.FullName())] != "") {
			t.Errorf("%s is neither used nor explained, or both", f.FullName())
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(minimal)
	for _, s := range []string{"", "node: {id: n}\n", "a: &a [*a]\n", "<<: {node: {id: x}}\n", "static_resources: {listeners: [{name: l, filter_chains: [{filters: [{typed_config: {'@type': x}}]}]}]}\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Load(Options{YAML: s})
		if s != "" && (b == nil) == (err == nil) {
			t.Errorf("bootstrap %v with error %v", b, err)
		}
	})
}
