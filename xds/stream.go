package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ServerConfig is one management server.
type ServerConfig struct {
	Name        string                           // in status, metrics and logs
	Addresses   []string                         // "host:port" or "unix:/path"; tried in turn until one connects
	Authority   string                           // the :authority of the stream; Name if empty
	Credentials credentials.TransportCredentials // nil: none
	Metadata    [][2]string                      // sent with the stream, such as a token

	ConnectTimeout time.Duration        // of one address and its handshake; 0: 5 s, as in Envoy
	Keepalive      time.Duration        // between HTTP/2 pings, at least 10 s; 0: none
	PingTimeout    time.Duration        // after which a ping without an answer ends the connection; 0: 20 s
	TCPKeepalive   *net.KeepAliveConfig // nil: a peer that is gone is noticed within 60 s
}

const connectTimeout = 5 * time.Second

// outboxLength is how many requests can wait for a server that does not read.
const outboxLength = 256

// adsLink is one stream to one server and the connection under it.
type adsLink struct {
	server    int
	session   *session // used by the goroutine of Client.Run only
	outbox    chan proto.Message
	cancel    context.CancelCauseFunc
	opened    time.Time // zero while it is not
	responded bool
}

// event is what happens to a link.
type event struct {
	link   *adsLink
	opened bool
	m      proto.Message // a response
	err    error
	closed bool // with err, which may be nil; the last event of a link
}

// adsStream is what the two kinds of stream have in common.
type adsStream interface {
	send(m proto.Message) error
	recv() (proto.Message, error)
}

type sotwStream struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (s sotwStream) send(m proto.Message) error {
	req, ok := m.(*discoveryv3.DiscoveryRequest)
	if !ok {
		return fmt.Errorf("xds: a %T cannot be sent on a state-of-the-world stream", m)
	}
	return s.Send(req)
}
func (s sotwStream) recv() (proto.Message, error) { return s.Recv() }

type deltaStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func (s deltaStream) send(m proto.Message) error {
	req, ok := m.(*discoveryv3.DeltaDiscoveryRequest)
	if !ok {
		return fmt.Errorf("xds: a %T cannot be sent on an incremental stream", m)
	}
	return s.Send(req)
}
func (s deltaStream) recv() (proto.Message, error) { return s.Recv() }

// dial opens a connection to one of the server's addresses.
func (o *ClientOptions) dial(ctx context.Context, s ServerConfig) (net.Conn, error) {
	if o.Dial != nil {
		return o.Dial(ctx, s)
	}
	alive := net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
	if s.TCPKeepalive != nil {
		alive = *s.TCPKeepalive
	}
	d := net.Dialer{Timeout: s.connectTimeout(), KeepAliveConfig: alive}
	var last error
	for _, address := range s.Addresses {
		network := "tcp"
		if path, ok := unixPath(address); ok {
			network, address = "unix", path
		}
		conn, err := d.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

func unixPath(address string) (path string, ok bool) {
	const prefix = "unix:"
	if len(address) > len(prefix) && address[:len(prefix)] == prefix {
		return address[len(prefix):], true
	}
	return "", false
}

func (s ServerConfig) connectTimeout() time.Duration {
	if s.ConnectTimeout > 0 {
		return s.ConnectTimeout
	}
	return connectTimeout
}

func (s ServerConfig) authority() string {
	if s.Authority != "" {
		return s.Authority
	}
	return s.Name
}

// connect prepares a connection; it is made when the stream is opened. Each
// stream has a connection of its own, so that the waits between tries are ours
// alone and addresses are resolved anew.
func (o *ClientOptions) connect(s ServerConfig) (*grpc.ClientConn, error) {
	creds := s.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithAuthority(s.authority()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.dial(ctx, s) }),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: s.connectTimeout() * time.Duration(max(len(s.Addresses), 1))}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.MaxMessage), grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithUserAgent(userAgent),
	}
	if s.Keepalive > 0 {
		ping := keepalive.ClientParameters{Time: s.Keepalive, Timeout: s.PingTimeout}
		if ping.Timeout <= 0 {
			ping.Timeout = 20 * time.Second
		}
		options = append(options, grpc.WithKeepaliveParams(ping))
	}
	return grpc.NewClient("passthrough:///"+s.authority(), options...)
}

// open opens a stream of the variant.
func (o *ClientOptions) open(ctx context.Context, conn *grpc.ClientConn, s ServerConfig) (adsStream, error) {
	for _, kv := range s.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, kv[0], kv[1])
	}
	if o.Secrets {
		sds := secretv3.NewSecretDiscoveryServiceClient(conn)
		if o.Variant == VariantDelta {
			stream, err := sds.DeltaSecrets(ctx)
			return deltaStream{stream}, err
		}
		stream, err := sds.StreamSecrets(ctx)
		return sotwStream{stream}, err
	}
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	if o.Variant == VariantDelta {
		stream, err := ads.DeltaAggregatedResources(ctx)
		return deltaStream{stream}, err
	}
	stream, err := ads.StreamAggregatedResources(ctx)
	return sotwStream{stream}, err
}

// serve runs a link until it is over, and tells the client of everything.
func (c *Client) serve(ctx context.Context, l *adsLink) {
	err := c.exchange(ctx, l)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	c.events <- event{link: l, closed: true, err: err} // Run waits for it, always
}

func (c *Client) exchange(ctx context.Context, l *adsLink) error {
	server := c.o.Servers[l.server]
	conn, err := c.o.connect(server)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // there is nothing left to lose
	ctx, cancel := context.WithCancelCause(ctx)
	stream, err := c.o.open(ctx, conn, server)
	if err != nil {
		cancel(nil)
		return err
	}
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for {
			select {
			case m := <-l.outbox:
				if stream.send(m) != nil {
					return // the reason comes from recv
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { cancel(nil); <-writer }()
	if !c.tell(ctx, event{link: l, opened: true}) {
		return nil
	}
	for {
		m, err := stream.recv()
		if err != nil {
			return err
		}
		if !c.tell(ctx, event{link: l, m: m}) {
			return nil
		}
	}
}

func (c *Client) tell(ctx context.Context, ev event) bool {
	select {
	case c.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// broken reports whether a stream ended because of what the server does, which it
// will do again.
func broken(err error) bool {
	if errors.Is(err, errDeaf) {
		return true
	}
	s, ok := status.FromError(err)
	return ok && (tooLarge(s) || garbled(s))
}
