package xds

import (
	"context"
	"net"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

func TestCSDS(t *testing.T) {
	r := newRig(t, nil)
	defer func() { must(t, r.Close()) }()
	r.update(Update{Kind: KindCluster, Variant: VariantSotw, Version: "1", Resources: []Resource{
		{Name: "a", Version: "1", Body: []byte("a=static:10.0.0.1:80")}, {Name: "b", Version: "1", Body: []byte("b=eds")}, {Name: "c", Version: "1", Body: []byte("c=bad:no")},
	}})
	r.Missing(KindEndpoints, "b")

	ln := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	RegisterCSDS(s, r.Applier, &corev3.Node{Id: "me"})
	go func() { _ = s.Serve(ln) }() // ends with Stop
	defer s.Stop()
	conn, err := grpc.NewClient("passthrough:///csds", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).StreamClientStatus(ctx)
	must(t, err)

	must(t, stream.Send(&statusv3.ClientStatusRequest{}))
	out, err := stream.Recv()
	must(t, err)
	cfg := out.GetConfig()[0]
	if cfg.GetNode().GetId() != "me" {
		t.Errorf("node %v", cfg.GetNode())
	}
	got := make(map[string]*statusv3.ClientConfig_GenericXdsConfig)
	for _, g := range cfg.GetGenericXdsConfigs() {
		kind, ok := KindOf(g.GetTypeUrl())
		if !ok {
			t.Errorf("type %q", g.GetTypeUrl())
		}
		got[kind.String()+" "+g.GetName()] = g
	}
	for name, want := range map[string]adminv3.ClientResourceStatus{
		"CDS a": adminv3.ClientResourceStatus_ACKED, "CDS b": adminv3.ClientResourceStatus_ACKED, "CDS c": adminv3.ClientResourceStatus_NACKED,
		"EDS b": adminv3.ClientResourceStatus_DOES_NOT_EXIST, "RTDS rt": adminv3.ClientResourceStatus_REQUESTED,
	} {
		if g := got[name]; g.GetClientStatus() != want {
			t.Errorf("%s is %v, want %v", name, g.GetClientStatus(), want)
		}
	}
	if a := got["CDS a"]; a.GetVersionInfo() != "1" || string(a.GetXdsConfig().GetValue()) != "a=static:10.0.0.1:80" {
		t.Errorf("a is %v", a)
	}
	if e := got["CDS c"].GetErrorState(); e.GetDetails() != "field: no (mend it)" || e.GetVersionInfo() != "1" || e.GetFailedConfiguration().GetTypeUrl() != KindCluster.TypeURL() || e.GetFailedConfiguration().GetValue() != nil {
		t.Errorf("c's error is %v", e)
	}

	must(t, stream.Send(&statusv3.ClientStatusRequest{ExcludeResourceContents: true}))
	out, err = stream.Recv()
	must(t, err)
	for _, g := range out.GetConfig()[0].GetGenericXdsConfigs() {
		if g.GetXdsConfig() != nil || g.GetErrorState().GetFailedConfiguration() != nil {
			t.Errorf("%s has its contents", g.GetName())
		}
	}
	must(t, stream.CloseSend())
}
