package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/secure"
)

// Credentials returns what secures a stream as a cluster's transport_socket says:
// certificates and trust inline, from files, or from secrets, which are files too
// (path_config_source) or those of the bootstrap, by name. Nil is plain text.
//
// Files are read anew for each handshake, so a rotated certificate is used by the
// next connection and the current one goes on. When they cannot be read, what was
// read last is used. As in Envoy, a server is not verified without a validation
// context, and no name is verified but those that it lists.
//
// What is set and cannot be followed is an error that names the field.
func Credentials(ts *corev3.TransportSocket, secrets func(name string) *tlsv3.Secret) (credentials.TransportCredentials, error) {
	if ts == nil {
		return insecure.NewCredentials(), nil
	}
	const path = "transport_socket.typed_config"
	config, err := ts.GetTypedConfig().UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("%s of %q: %w", path, ts.GetName(), err)
	}
	if config.ProtoReflect().Descriptor().FullName() == "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" {
		return insecure.NewCredentials(), nil
	}
	up, ok := config.(*tlsv3.UpstreamTlsContext)
	if !ok {
		return nil, fmt.Errorf("%s: a management stream cannot use %s: use UpstreamTlsContext", path, config.ProtoReflect().Descriptor().FullName())
	}
	l := upstreamTLS{up, secrets}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &tlsCredentials{load: l.config}
	// What is wrong now is better said now; a file may still come.
	if _, _, err := c.config(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// GoogleCredentials returns the credentials that google_grpc names. Unlike
// Credentials they verify the server's name, with the system's roots unless
// others are given.
func GoogleCredentials(cc *corev3.GrpcService_GoogleGrpc_ChannelCredentials) (credentials.TransportCredentials, error) {
	switch cc := cc.GetCredentialSpecifier().(type) {
	case nil:
		return insecure.NewCredentials(), nil
	case *corev3.GrpcService_GoogleGrpc_ChannelCredentials_LocalCredentials:
		return local.NewCredentials(), nil // they refuse a connection that leaves this machine
	case *corev3.GrpcService_GoogleGrpc_ChannelCredentials_SslCredentials:
		c := &tlsCredentials{load: func() (*tls.Config, error) { return googleTLS(cc.SslCredentials) }, named: true}
		if _, _, err := c.config(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("ssl_credentials: %w", err)
		}
		return c, nil
	default:
		return nil, fmt.Errorf("google_grpc.channel_credentials: %T is not supported: use ssl_credentials, or envoy_grpc with a cluster", cc)
	}
}

func googleTLS(ssl *corev3.GrpcService_GoogleGrpc_SslCredentials) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ssl.GetRootCerts() != nil {
		p, err := pemOf(ssl.GetRootCerts())
		if err == nil {
			config.RootCAs, err = secure.ReadRoots(p)
		}
		if err != nil {
			return nil, fmt.Errorf("root_certs: %w", err)
		}
	}
	if ssl.GetCertChain() != nil || ssl.GetPrivateKey() != nil {
		pair, err := keyPair(ssl.GetCertChain(), ssl.GetPrivateKey())
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// tlsCredentials is TLS whose configuration is loaded for each handshake. It is
// safe for concurrent use.
type tlsCredentials struct {
	load  func() (*tls.Config, error)
	named bool // the server is verified by the name it is asked for

	mu   sync.Mutex
	last *tls.Config // that was loaded without an error
}

// config returns the configuration for a handshake; stale says why it is not the
// present one.
func (c *tlsCredentials) config() (config *tls.Config, stale, err error) {
	config, err = c.load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if c.last == nil {
			return nil, nil, err
		}
		return c.last.Clone(), err, nil
	}
	c.last = config
	return config.Clone(), nil, nil
}

const alpn = "h2"

// ClientHandshake implements credentials.TransportCredentials.
func (c *tlsCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, stale, err := c.config()
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(config.NextProtos, alpn) {
		config.NextProtos = append(slices.Clone(config.NextProtos), alpn)
	}
	if c.named && config.ServerName == "" {
		config.ServerName = authority
		if host, _, err := net.SplitHostPort(authority); err == nil {
			config.ServerName = host
		}
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		if stale != nil {
			err = fmt.Errorf("%w (with certificates that were read earlier, because now: %w)", err, stale)
		}
		return nil, nil, err
	}
	state := conn.ConnectionState()
	if p := state.NegotiatedProtocol; p != "" && p != alpn {
		return nil, nil, fmt.Errorf("the server chose protocol %q in TLS, want %s", p, alpn)
	}
	return conn, credentials.TLSInfo{
		State:          state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ServerHandshake implements credentials.TransportCredentials; these are a
// client's.
func (c *tlsCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("xds: these are a client's credentials")
}

// Info implements credentials.TransportCredentials.
func (c *tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *tlsCredentials) Clone() credentials.TransportCredentials {
	return &tlsCredentials{load: c.load, named: c.named}
}

// OverrideServerName implements credentials.TransportCredentials. What is sent as
// SNI stands in the configuration.
func (c *tlsCredentials) OverrideServerName(string) error { return nil }

// only refuses fields of m that are set and not among the allowed ones.
func only(m proto.Message, path string, allowed ...string) error {
	var bad []string
	m.ProtoReflect().Range(func(fd fieldDescriptor, _ fieldValue) bool {
		if !slices.Contains(allowed, string(fd.Name())) {
			bad = append(bad, string(fd.Name()))
		}
		return true
	})
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	if path != "" {
		path += "."
	}
	return fmt.Errorf("%s%s: not supported on a management stream", path, bad[0])
}
