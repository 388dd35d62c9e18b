package xds

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// Server returns the management server that a grpc_service of a bootstrap means.
// cluster and secrets find static clusters and secrets by name; they return nil
// for what is not there.
func Server(service *corev3.GrpcService, cluster func(name string) *clusterv3.Cluster, secrets func(name string) *tlsv3.Secret) (ServerConfig, error) {
	var s ServerConfig
	for i, h := range service.GetInitialMetadata() {
		key, value := strings.ToLower(h.GetKey()), h.GetValue()
		if value == "" {
			value = string(h.GetRawValue())
		}
		if key == "" || strings.HasPrefix(key, ":") || strings.HasPrefix(key, "grpc-") {
			return s, fmt.Errorf("initial_metadata[%d].key: %q cannot be sent", i, h.GetKey())
		}
		s.Metadata = append(s.Metadata, [2]string{key, value})
	}
	switch t := service.GetTargetSpecifier().(type) {
	case *corev3.GrpcService_EnvoyGrpc_:
		name := t.EnvoyGrpc.GetClusterName()
		c := cluster(name)
		if c == nil {
			return s, fmt.Errorf("envoy_grpc.cluster_name: static_resources has no cluster %q", name)
		}
		s.Name, s.Authority = name, t.EnvoyGrpc.GetAuthority()
		if err := s.reach(c, secrets); err != nil {
			return s, fmt.Errorf("cluster %q: %w", name, err)
		}
	case *corev3.GrpcService_GoogleGrpc_:
		g := t.GoogleGrpc
		if len(g.GetCallCredentials()) > 0 || g.GetCredentialsFactoryName() != "" || len(g.GetChannelCredentialsPlugin()) > 0 || len(g.GetCallCredentialsPlugin()) > 0 {
			return s, errors.New("google_grpc: only channel_credentials are supported: send a token with initial_metadata")
		}
		address, err := target(g.GetTargetUri())
		if err != nil {
			return s, fmt.Errorf("google_grpc.target_uri: %w", err)
		}
		s.Name, s.Addresses = g.GetTargetUri(), []string{address}
		s.Authority = address
		if _, unix := unixPath(address); unix {
			s.Authority = "localhost"
		}
		if g.GetChannelCredentials().GetLocalCredentials() != nil && elsewhere(address) {
			return s, fmt.Errorf("google_grpc.channel_credentials.local_credentials: %s is not on this machine: use ssl_credentials", address)
		}
		if s.Credentials, err = GoogleCredentials(g.GetChannelCredentials()); err != nil {
			return s, fmt.Errorf("google_grpc: %w", err)
		}
	default:
		return s, errors.New("grpc_service: neither envoy_grpc nor google_grpc is set")
	}
	return s, nil
}

// target reads those of gRPC's target URIs that name an address.
func target(uri string) (string, error) {
	switch {
	case strings.HasPrefix(uri, "unix://"):
		return "unix:" + strings.TrimPrefix(uri, "unix://"), nil
	case strings.HasPrefix(uri, "unix:"):
		return uri, nil
	}
	address := strings.TrimPrefix(strings.TrimPrefix(uri, "dns:"), "///")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", fmt.Errorf("%q: want host:port, dns:///host:port or unix:/path: %w", uri, err)
	}
	return address, nil
}

// elsewhere reports whether an address is another machine's. Of a name nobody
// knows before it is connected to.
func elsewhere(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return err == nil && !ip.IsLoopback()
}

// reach reads how to connect to a cluster.
func (s *ServerConfig) reach(c *clusterv3.Cluster, secrets func(string) *tlsv3.Secret) error {
	switch t := c.GetType(); t {
	case clusterv3.Cluster_STATIC, clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
	default:
		return fmt.Errorf("type %v: a management server's cluster is STATIC, STRICT_DNS or LOGICAL_DNS", t)
	}
	for _, locality := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			address := e.GetEndpoint().GetAddress()
			switch a := address.GetAddress().(type) {
			case *corev3.Address_SocketAddress:
				port := strconv.FormatUint(uint64(a.SocketAddress.GetPortValue()), 10)
				s.Addresses = append(s.Addresses, net.JoinHostPort(a.SocketAddress.GetAddress(), port))
			case *corev3.Address_Pipe:
				s.Addresses = append(s.Addresses, "unix:"+a.Pipe.GetPath())
			default:
				return fmt.Errorf("load_assignment: an endpoint's address is %T: want socket_address or pipe", a)
			}
		}
	}
	if len(s.Addresses) == 0 {
		return errors.New("load_assignment has no endpoint")
	}
	if len(c.GetTransportSocketMatches()) > 0 {
		return errors.New("transport_socket_matches: not supported on a management stream: use transport_socket")
	}
	var err error
	if s.Credentials, err = Credentials(c.GetTransportSocket(), secrets); err != nil {
		return err
	}
	s.ConnectTimeout = c.GetConnectTimeout().AsDuration()
	if k := c.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		// Zero is the system's value, in Envoy; Go's word for that is -1.
		seconds := func(v interface{ GetValue() uint32 }) time.Duration {
			if v.GetValue() == 0 {
				return -1
			}
			return time.Duration(v.GetValue()) * time.Second
		}
		s.TCPKeepalive = &net.KeepAliveConfig{Enable: true, Idle: seconds(k.GetKeepaliveTime()), Interval: seconds(k.GetKeepaliveInterval()), Count: -1}
		if n := k.GetKeepaliveProbes().GetValue(); n > 0 {
			s.TCPKeepalive.Count = int(n)
		}
	}
	ping := c.GetHttp2ProtocolOptions().GetConnectionKeepalive()
	if packed := c.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]; packed != nil {
		var h httpv3.HttpProtocolOptions
		if err := packed.UnmarshalTo(&h); err != nil {
			return fmt.Errorf("typed_extension_protocol_options: %w", err)
		}
		if p := h.GetExplicitHttpConfig().GetHttp2ProtocolOptions().GetConnectionKeepalive(); p != nil {
			ping = p
		}
	}
	s.Keepalive, s.PingTimeout = ping.GetInterval().AsDuration(), ping.GetTimeout().AsDuration()
	return nil
}
