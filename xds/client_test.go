package xds

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// scripted is a manager whose SotW streams are a function's.
func scripted(t testing.TB, f func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error) *manager {
	t.Helper()
	return &manager{t: t, service: func(server *grpc.Server) {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, script{sotw: f})
	}}
}

type script struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	sotw func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error
}

func (s script) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.sotw(stream)
}

// rawCodec sends bytes as they are.
type rawCodec struct{ encoding.CodecV2 }

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (rawCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// raw is a manager that first sends valid clusters and then bytes.
func raw(t testing.TB, data []byte) *manager {
	t.Helper()
	good := &discoveryv3.DiscoveryResponse{TypeUrl: KindCluster.TypeURL(), VersionInfo: "v", Nonce: "1"}
	good.Resources = append(good.Resources, wrap(t, cluster("a", "")))
	first, err := proto.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, service: func(*grpc.Server) {}}
	m.extra = []grpc.ServerOption{grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		m.mu.Lock()
		m.streams = append(m.streams, "raw")
		m.mu.Unlock()
		if err := s.SendMsg(first); err != nil {
			return err
		}
		if err := s.SendMsg(data); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	})}
	return m
}

// wait lets fake time pass and everybody finish.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBadServers(t *testing.T) {
	cases := map[string]struct {
		data []byte
		want string
	}{
		"garbage":         {bytes.Repeat([]byte{0xff}, 1000), "what it sent is no discovery response"},
		"a hundred MB":    {make([]byte, 100<<20), "larger than the limit of 67108864 bytes"},
		"a bad any":       {[]byte{0x12, 3, 0x0a, 1, 0xff}, "what it sent is no discovery response"},
		"nothing useful":  {nil, ""},
		"another message": {[]byte{0x0a, 1, 'x'}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, sink := raw(t, c.data), newFakeSink()
				m.start()
				client := run(t, ClientOptions{Variant: VariantSotw, Sink: sink}, m)
				wait(60 * time.Second)
				if sink.have[KindCluster]["a"] == "" {
					t.Error("the last good configuration is gone")
				}
				st := client.Status()
				if c.want == "" {
					if !st.Connected || len(m.streams) != 1 {
						t.Errorf("%d streams, status %+v", len(m.streams), st)
					}
					return
				}
				if st.Err == nil || !strings.Contains(st.Err.Error(), c.want) || !strings.Contains(st.Err.Error(), "the last configuration stays in use") {
					t.Errorf("error %v, want %q in it", st.Err, c.want)
				}
				// 1, 1.6, 2.6, 4.1, 6.6 … s: the good response before does not reset the series.
				if n := len(m.streams); n < 6 || n > 9 {
					t.Errorf("%d streams within a minute", n)
				}
			})
		})
	}
}

func TestServerWithoutThisVariant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, sink := scripted(t, nil), newFakeSink()
		m.start()
		c := run(t, ClientOptions{Variant: VariantDelta, Sink: sink}, m)
		wait(time.Second)
		if err := c.Status().Err; err == nil || !strings.Contains(err.Error(), "set api_type to GRPC") {
			t.Errorf("error %v", err)
		}
		if c.Status().Connected {
			t.Error("connected")
		}
	})
}

func TestServerAbsentAtStart(t *testing.T) {
	for _, variant := range []string{VariantSotw, VariantDelta} {
		synctest.Test(t, func(t *testing.T) {
			m, sink := linear(t), newFakeSink()
			m.set(world("", []string{"a"}, []string{"r"}))
			c := run(t, ClientOptions{Variant: variant, Sink: sink}, m)
			wait(10 * time.Minute)
			st := c.Status()
			if st.Connected || st.Err == nil || !strings.Contains(st.Err.Error(), "connection refused") || st.Tries < 10 || st.Tries > 20 {
				t.Errorf("status %+v", st)
			}
			if len(sink.missing) != 0 {
				t.Errorf("missing %q, while nobody could be asked", sink.missing)
			}
			m.start()
			wait(145 * time.Second)
			sink.holds(t, "a", "a", "l-r", "r")
			if st := c.Status(); st.Tries != 0 || st.Err != nil || !st.Responded {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A server that hangs up on everybody is not asked more often than one that is
// away; that it worked before is no error.
func TestFlappingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := 0
		m := scripted(t, func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
			streams++
			req, err := s.Recv()
			if err != nil {
				return err
			}
			return s.Send(&discoveryv3.DiscoveryResponse{TypeUrl: req.GetTypeUrl(), VersionInfo: "v", Nonce: "1"})
		})
		sink := newFakeSink()
		m.start()
		c := run(t, ClientOptions{Variant: VariantSotw, Sink: sink}, m)
		wait(time.Minute)
		if streams < 48 || streams > 76 {
			t.Errorf("%d streams in a minute", streams)
		}
		for _, line := range sink.connected {
			if line != "m0 up" && line != "m0 down" {
				t.Errorf("an error: %s", line)
			}
		}
		if c.Status().Err != nil {
			t.Error(c.Status().Err)
		}
	})
}

// A server that says nothing after a reconnect has nothing new to say.
func TestSilenceAfterReconnect(t *testing.T) {
	for _, variant := range []string{VariantSotw, VariantDelta} {
		synctest.Test(t, func(t *testing.T) {
			m, sink := linear(t), newFakeSink()
			m.set(world("", []string{"a"}, []string{"r"}))
			m.start()
			c := run(t, ClientOptions{Variant: variant, Sink: sink}, m)
			wait(time.Second)
			m.stop()
			m.service = func(s *grpc.Server) { discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, mute{}) }
			m.start()
			wait(time.Hour)
			sink.holds(t, "a", "a", "l-r", "r")
			if len(sink.missing) != 0 {
				t.Errorf("missing %q", sink.missing)
			}
			if st := c.Status(); !st.Connected || st.Responded || st.Kinds[0].Waiting != 0 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// mute answers nothing.
type mute struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (mute) StreamAggregatedResources(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	<-s.Context().Done()
	return nil
}

func (mute) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	<-s.Context().Done()
	return nil
}

func TestFallback(t *testing.T) {
	for _, variant := range []string{VariantSotw, VariantDelta} {
		t.Run(variant, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second, sink := linear(t), linear(t), newFakeSink()
				first.set(world("first", []string{"a", "b"}, []string{"r"}))
				second.set(world("second", []string{"a", "c"}, []string{"r"}))
				second.start()
				c := run(t, ClientOptions{Variant: variant, Sink: sink}, first, second)
				wait(time.Second)
				sink.holds(t, "a c", "a c", "l-r", "r")
				if st := c.Status(); st.Server != "m1" || !st.Fallback || !st.Connected {
					t.Fatalf("status %+v", st)
				}
				first.start()
				wait(145 * time.Second) // the longest wait
				sink.holds(t, "a b", sink.names(KindEndpoints), "l-r", "r")
				if sink.have[KindEndpoints]["b"] == "" {
					t.Error("no assignment from the first server")
				}
				if st := c.Status(); st.Server != "m0" || st.Fallback || !st.Connected {
					t.Fatalf("status %+v", st)
				}
				if second.open != 0 {
					t.Error("the stream to the second server is open still")
				}
				last := sink.connected[len(sink.connected)-1]
				if last != "m0 up" {
					t.Errorf("last word %q", last)
				}
				// All that is needed is here: the second is not asked.
				first.stop()
				before := len(second.streams)
				wait(10 * time.Minute)
				if len(second.streams) != before {
					t.Error("another server was asked although nothing is lacking")
				}
				// Until something is.
				sink.change(func() { sink.extra[KindRoutes] = []string{"only-here"} })
				second.set(world("second", []string{"a", "c"}, []string{"r", "only-here"}))
				wait(145 * time.Second)
				if sink.have[KindRoutes]["only-here"] == "" || c.Status().Server != "m1" {
					t.Errorf("status %+v, tables %v", c.Status(), sink.have[KindRoutes])
				}
			})
		})
	}
}

func (s *fakeSink) names(k Kind) string {
	var all []string
	for name := range s.have[k] {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A server that takes no requests: the stream is given up, memory is not.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := scripted(t, func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
			req, err := s.Recv()
			if err != nil {
				return err
			}
			for i := 0; ; i++ {
				err := s.Send(&discoveryv3.DiscoveryResponse{TypeUrl: req.GetTypeUrl(), VersionInfo: "v", Nonce: strings.Repeat("n", 10_000)})
				if err != nil {
					return err
				}
			}
		})
		sink := newFakeSink()
		m.start()
		run(t, ClientOptions{Variant: VariantSotw, Sink: sink}, m)
		wait(time.Second / 2)
		if len(sink.connected) != 2 || !strings.Contains(sink.connected[1], "it reads nothing") {
			t.Errorf("connected %q", sink.connected)
		}
	})
}

func TestStreamCarriesMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got metadata.MD
		m := scripted(t, func(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
			got, _ = metadata.FromIncomingContext(s.Context())
			return status.Error(codes.Unauthenticated, "who is there?")
		})
		m.start()
		defer m.stop()
		c := NewClient(ClientOptions{
			Variant: VariantSotw, Sink: newFakeSink(),
			Servers: []ServerConfig{{Name: "cp", Authority: "cp.example", Metadata: [][2]string{{"authorization", "Bearer x"}}, Keepalive: 10 * time.Second}},
			Dial:    func(ctx context.Context, _ ServerConfig) (net.Conn, error) { return m.dial(ctx) },
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got["authorization"], []string{"Bearer x"}) || !slices.Equal(got[":authority"], []string{"cp.example"}) || !strings.HasPrefix(got["user-agent"][0], "quadnine") {
			t.Errorf("metadata %v", got)
		}
		if err := c.Status().Err; err == nil || !strings.Contains(err.Error(), "Unauthenticated: who is there?: check the certificate") {
			t.Errorf("error %v", err)
		}
	})
}

func TestOptions(t *testing.T) {
	if err := NewClient(ClientOptions{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no management server") {
		t.Error(err)
	}
	if err := NewClient(ClientOptions{Variant: "x", Servers: []ServerConfig{{}}}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Error(err)
	}
	o := ClientOptions{}
	if _, err := o.dial(t.Context(), ServerConfig{Addresses: []string{"unix:" + t.TempDir() + "/none", "127.0.0.1:0"}}); err == nil {
		t.Error("dialed nothing")
	}
}

// TestLoopback is one conversation over TCP and over a Unix socket, with real
// time.
func TestLoopback(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			m := linear(t)
			m.set(world("", []string{"a"}, []string{"r"}))
			m.start()
			defer m.stop()
			address := "127.0.0.1:0"
			if network == "unix" {
				address = t.TempDir() + "/s"
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = m.server.Serve(l) }()
			target := l.Addr().String()
			if network == "unix" {
				target = "unix:" + target
			}
			sink := newFakeSink()
			sink.heard = make(chan struct{})
			c := NewClient(ClientOptions{Sink: sink, Servers: []ServerConfig{{Name: "m", Addresses: []string{"127.0.0.1:1", target}}}, Node: Node(nil, "1.2.3", Extensions())})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- c.Run(ctx) }()
			for range 5 { // connected, and a response of four kinds
				<-sink.heard
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			sink.holds(t, "a", "a", "l-r", "r")
		})
	}
}

func TestNodeSaysWhatWeAre(t *testing.T) {
	n := Node(nil, "v1.2.3-rc1", Extensions())
	if v := n.GetUserAgentBuildVersion().GetVersion(); n.GetUserAgentName() != "quadnine" || v.GetMajorNumber() != 1 || v.GetMinorNumber() != 2 || v.GetPatch() != 3 {
		t.Errorf("node %v", n)
	}
	if v := Node(nil, "devel", nil).GetUserAgentVersion(); v != "devel" {
		t.Errorf("version %q", v)
	}
	if f := n.GetClientFeatures(); !slices.Equal(f, []string{"xds.config.resource-in-sotw"}) {
		t.Errorf("features %q", f)
	}
	seen := make(map[string]bool)
	for _, e := range n.GetExtensions() {
		if e.GetName() == "" || e.GetCategory() == "" || len(e.GetTypeUrls()) != 1 || seen[e.GetCategory()+e.GetName()] {
			t.Errorf("extension %v", e)
		}
		seen[e.GetCategory()+e.GetName()] = true
	}
}
