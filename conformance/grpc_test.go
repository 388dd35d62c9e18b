package conformance

import (
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/examples/statsapp/statsv1"
)

// stats dials addr with grpc-go.
func stats(t *testing.T, addr string) statsv1.StatsClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return statsv1.NewStatsClient(cc)
}

func TestGRPCUnary(t *testing.T) {
	s, upstream := behind(t)
	q := &statsv1.QueryRequest{Tenant: "acme", Metric: "uv"}
	want, err := stats(t, upstream).Query(deadline(t, within), q)
	if err != nil {
		t.Fatal(err)
	}
	through := stats(t, s.addr)
	for range soak(100, 100_000) {
		got, err := through.Query(deadline(t, within), q)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("through the sidecar %v, directly %v", got, want)
		}
	}
	// A trailers-only reply: the status is in the first header block.
	if _, err := through.Query(deadline(t, within), &statsv1.QueryRequest{Tenant: "acme"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a query without a metric: %v, want InvalidArgument", err)
	}
}

func TestGRPCBidi(t *testing.T) {
	s, _ := behind(t)
	stream, err := stats(t, s.addr).Watch(deadline(t, 20*within))
	if err != nil {
		t.Fatal(err)
	}
	n := soak(200, 100_000)
	for i := range n { // in turn: a proxy that waits for the request's end would hang here
		tenant := []string{"acme", "globex"}[i%2]
		if err := stream.Send(&statsv1.QueryRequest{Tenant: tenant, Metric: "pv"}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if r.GetTenant() != tenant {
			t.Fatalf("message %d is about %q, want %q", i, r.GetTenant(), tenant)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF { //nolint:errorlint // grpc returns io.EOF itself
		t.Fatal(fmt.Errorf("after %d messages the stream ends with %w, want EOF", n, err))
	}
}
