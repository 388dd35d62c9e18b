package captures

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	// What the captured servers send, so that it can be read from JSON.
	_ "github.com/cncf/xds/go/udpa/type/v1"
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	_ "github.com/cncf/xds/go/xds/type/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/internal/testkit"
)

// secured are the addresses of listeners that speak TLS.
var secured sync.Map

const captured = "../../xds/compile/testdata/captures"

// resource is one that a server sent, as it is replayed.
type resource struct {
	api  string // CDS, EDS, LDS or RDS
	kind string // Cluster, …
	name string
	json any
	addr string // of a listener
}

// key is how lists name it.
func (r *resource) key() string { return r.kind + " " + r.name }

// apis are the types that are replayed.
var apis = map[string]string{
	"envoy.config.cluster.v3.Cluster":                  "CDS",
	"envoy.config.endpoint.v3.ClusterLoadAssignment":   "EDS",
	"envoy.config.listener.v3.Listener":                "LDS",
	"envoy.config.route.v3.RouteConfiguration":         "RDS",
	"envoy.extensions.transport_sockets.tls.v3.Secret": "", // captured without its key: see secrets
}

// secrets are in the place of those that captures leave out: a certificate of our own
// under each name.
func secrets(t *testing.T) (out []types.Resource) {
	t.Helper()
	pair := testkit.NewCA(t, "captures").Issue("www.example.com")
	pem := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	return append(out, &tlsv3.Secret{Name: "default/cert", Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: pem(pair.Cert), PrivateKey: pem(pair.Key)},
	}})
}

// load reads what a server sent, the newest of each name, with addresses that
// can be used here.
func load(t *testing.T, server, backend, dir string) (out []*resource) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(captured, server+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Type, Name string
		Resource   any
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "/DIR", dir)), &all); err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for _, one := range all {
		api, ok := apis[one.Type]
		if !ok {
			t.Fatalf("%s sends a %s, which this test does not know", server, one.Type)
		}
		if api == "" {
			continue
		}
		r := &resource{api: api, kind: one.Type[strings.LastIndexByte(one.Type, '.')+1:], name: one.Name, json: one.Resource}
		if i, ok := at[r.key()]; ok {
			out[i] = r
			continue
		}
		at[r.key()] = len(out)
		out = append(out, r)
	}
	addrs, err := proc.Addrs(len(out))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range out {
		if r.api == "LDS" {
			r.addr = addrs[i]
			move(field(r.json, "address"), r.addr)
			if text, err := json.Marshal(r.json); err == nil && strings.Contains(string(text), "DownstreamTlsContext") {
				secured.Store(r.addr, true)
			}
		} else {
			moveEndpoints(r.json, backend)
		}
	}
	return out
}

// field returns a member of a JSON object, or nil.
func field(v any, names ...string) any {
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// move writes addr into a socket address, if v is one.
func move(v any, addr string) {
	for _, name := range []string{"socket_address", "socketAddress"} {
		if s, ok := field(v, name).(map[string]any); ok {
			host, port, _ := net.SplitHostPort(addr)
			delete(s, "portValue")
			s["address"], s["port_value"] = host, json.Number(port)
		}
	}
}

// moveEndpoints writes addr into every endpoint below v.
func moveEndpoints(v any, addr string) {
	switch v := v.(type) {
	case map[string]any:
		if e, ok := v["endpoint"]; ok {
			move(field(e, "address"), addr)
		}
		for _, x := range v {
			moveEndpoints(x, addr)
		}
	case []any:
		for _, x := range v {
			moveEndpoints(x, addr)
		}
	}
}

// message returns the resource as it is sent.
func (r *resource) message(t *testing.T) types.Resource {
	t.Helper()
	var m types.Resource
	switch r.api {
	case "CDS":
		m = new(clusterv3.Cluster)
	case "EDS":
		m = new(endpointv3.ClusterLoadAssignment)
	case "LDS":
		m = new(listenerv3.Listener)
	default:
		m = new(routev3.RouteConfiguration)
	}
	fill(t, m, r.json)
	return m
}

// fill makes a message of JSON.
func fill(t *testing.T, m proto.Message, v any) {
	t.Helper()
	js, err := json.Marshal(v)
	if err == nil {
		err = protojson.Unmarshal(js, m)
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, js)
	}
}

// refused reads the list of what is not taken: reasons by server and resource.
func refused(t *testing.T) map[string]map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(captured, "refused.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]map[string][]string)
	var server, key string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			// "path: reason; hint" is told as "path: reason (hint)".
			i := strings.LastIndex(line, "; ")
			out[server][key] = append(out[server][key], strings.TrimSpace(line[:i])+" ("+line[i+2:]+")")
		default:
			server, key, _ = strings.Cut(line, " ")
			if out[server] == nil {
				out[server] = make(map[string][]string)
			}
			out[server][key] = nil
		}
	}
	return out
}
