package xds

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestServers reads what the bootstraps of real management servers say of them.
func TestServers(t *testing.T) {
	const pipe = `{"name":"x","loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"pipe":{"path":"/run/x"}}}}]}]}}`
	socket := func(more string) string {
		return `{"name":"x","type":"STRICT_DNS","connectTimeout":"10s","loadAssignment":{"endpoints":[{"lbEndpoints":[
			{"endpoint":{"address":{"socketAddress":{"address":"cp","portValue":18000}}}},
			{"endpoint":{"address":{"socketAddress":{"address":"::1","portValue":1}}}}]}]}` + more + `}`
	}
	const keepalive = `"explicitHttpConfig":{"http2ProtocolOptions":{"connectionKeepalive":{"interval":"30s","timeout":"5s"}}}`
	const options = `,"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",` + keepalive + `}}`
	for name, c := range map[string]struct {
		service, cluster, err string
		check                 func(s ServerConfig) bool
	}{
		"dns": {`{"envoyGrpc":{"clusterName":"x"},"initialMetadata":[{"key":"Authorization","value":"Bearer t"}]}`, socket(options), "", func(s ServerConfig) bool {
			return s.Name == "x" && s.authority() == "x" && slices.Equal(s.Addresses, []string{"cp:18000", "[::1]:1"}) && s.ConnectTimeout == 10*time.Second &&
				s.Keepalive == 30*time.Second && s.PingTimeout == 5*time.Second && s.Metadata[0] == [2]string{"authorization", "Bearer t"} && s.TCPKeepalive == nil
		}},
		"pipe": {`{"envoyGrpc":{"clusterName":"x","authority":"cp.example"}}`, pipe, "", func(s ServerConfig) bool {
			return s.authority() == "cp.example" && slices.Equal(s.Addresses, []string{"unix:/run/x"})
		}},
		"keepalive": {`{"envoyGrpc":{"clusterName":"x"}}`, socket(`,"upstreamConnectionOptions":{"tcpKeepalive":{"keepaliveTime":300}}`), "", func(s ServerConfig) bool {
			k := s.TCPKeepalive
			return k != nil && k.Enable && k.Idle == 300*time.Second && k.Interval < 0 && k.Count < 0
		}},
		"google": {`{"googleGrpc":{"targetUri":"dns:///cp:15010","statPrefix":"x"}}`, "", "", func(s ServerConfig) bool {
			return slices.Equal(s.Addresses, []string{"cp:15010"}) && s.Credentials.Info().SecurityProtocol == "insecure"
		}},
		"google, plain": {`{"googleGrpc":{"targetUri":"cp:15010","statPrefix":"x"}}`, "", "", func(s ServerConfig) bool { return s.Addresses[0] == "cp:15010" && s.authority() == "cp:15010" }},
		"google, unix":  {`{"googleGrpc":{"targetUri":"unix:///run/x","statPrefix":"x"}}`, "", "", func(s ServerConfig) bool { return s.Addresses[0] == "unix:/run/x" && s.authority() == "localhost" }},

		"local":           {`{"googleGrpc":{"targetUri":"127.0.0.1:1","channelCredentials":{"localCredentials":{}}}}`, "", "", func(s ServerConfig) bool { return s.Credentials.Info().SecurityProtocol == "local" }},
		"local, unix":     {`{"googleGrpc":{"targetUri":"unix:///run/x","channelCredentials":{"localCredentials":{}}}}`, "", "", func(s ServerConfig) bool { return s.Credentials.Info().SecurityProtocol == "local" }},
		"local elsewhere": {`{"googleGrpc":{"targetUri":"192.0.2.1:1","channelCredentials":{"localCredentials":{}}}}`, "", "192.0.2.1:1 is not on this machine: use ssl_credentials", nil},

		"no port":       {`{"googleGrpc":{"targetUri":"cp","statPrefix":"x"}}`, "", `google_grpc.target_uri: "cp": want host:port`, nil},
		"call":          {`{"googleGrpc":{"targetUri":"cp:1","statPrefix":"x","callCredentials":[{"accessToken":"x"}]}}`, "", "send a token with initial_metadata", nil},
		"nothing":       {`{}`, "", "neither envoy_grpc nor google_grpc is set", nil},
		"unknown":       {`{"envoyGrpc":{"clusterName":"y"}}`, pipe, `static_resources has no cluster "y"`, nil},
		"eds":           {`{"envoyGrpc":{"clusterName":"x"}}`, `{"name":"x","type":"EDS"}`, `cluster "x": type EDS: a management server's cluster is STATIC`, nil},
		"empty":         {`{"envoyGrpc":{"clusterName":"x"}}`, `{"name":"x"}`, `cluster "x": load_assignment has no endpoint`, nil},
		"internal":      {`{"envoyGrpc":{"clusterName":"x"}}`, `{"name":"x","loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{}}]}]}}`, "want socket_address or pipe", nil},
		"matches":       {`{"envoyGrpc":{"clusterName":"x"}}`, socket(`,"transportSocketMatches":[{"name":"m"}]`), "transport_socket_matches: not supported", nil},
		"bad socket":    {`{"envoyGrpc":{"clusterName":"x"}}`, socket(`,"transportSocket":{"name":"m"}`), `cluster "x": transport_socket.typed_config`, nil},
		"pseudo header": {`{"envoyGrpc":{"clusterName":"x"},"initialMetadata":[{"key":":path","value":"x"}]}`, pipe, `initial_metadata[0].key: ":path" cannot be sent`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var service corev3.GrpcService
			if err := protojson.Unmarshal([]byte(c.service), &service); err != nil {
				t.Fatal(err)
			}
			find := func(name string) *clusterv3.Cluster {
				if c.cluster == "" || name != "x" {
					return nil
				}
				var cluster clusterv3.Cluster
				if err := protojson.Unmarshal([]byte(c.cluster), &cluster); err != nil {
					t.Fatal(err)
				}
				return &cluster
			}
			s, err := Server(&service, find, nil)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err == "" && !c.check(s):
				t.Errorf("%+v", s)
			}
		})
	}
}
