package statsapp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/examples/statsapp/statsv1"
)

func dial(t *testing.T, url string) statsv1.StatsClient {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return statsv1.NewStatsClient(conn)
}

func TestGRPCQueryEqualsHTTP(t *testing.T) {
	app := seededApp(t)
	c := dial(t, serve(t, app))
	for _, q := range []Query{
		{Tenant: "acme", Metric: "pv", To: MaxTime},
		{Tenant: "acme", Metric: "uv", From: SeedStart + 5, To: SeedStart + 9*bucketMS, Approx: true},
		{Tenant: "acme", Metric: "avg_duration", To: MaxTime, Event: "buy"},
		{Tenant: "acme", Metric: "funnel", To: MaxTime, Steps: []string{"view", "cart", "buy"}},
	} {
		want, err := app.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		req := &statsv1.QueryRequest{Tenant: q.Tenant, Metric: q.Metric, Event: q.Event, Approx: q.Approx, Steps: q.Steps, FromMs: new(q.From)}
		if q.To != MaxTime {
			req.ToMs = new(q.To)
		}
		var header metadata.MD
		got, err := c.Query(metadata.AppendToOutgoingContext(t.Context(), "x-model-version", "m@7"), req, grpc.Header(&header))
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if !proto.Equal(got, toProto(q, want)) || want.Events == 0 {
			t.Errorf("%+v:\n got %v\nwant %v", q, got, want)
		}
		if v := header.Get("x-model-version"); len(v) != 1 || v[0] != "m@7" {
			t.Errorf("header %v", header)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-tenant-id", "globex")
	if got, err := c.Query(ctx, &statsv1.QueryRequest{Tenant: "acme", Metric: "pv"}); err != nil || got.GetTenant() != "globex" {
		t.Errorf("x-tenant-id: %v, %v", got, err)
	}
}

func TestGRPCRefusesBadQueries(t *testing.T) {
	c := dial(t, serve(t, seededApp(t)))
	for want, req := range map[codes.Code]*statsv1.QueryRequest{
		codes.InvalidArgument: {Metric: "pv"},
		codes.NotFound:        {Tenant: "acme", Metric: "nope"},
	} {
		if _, err := c.Query(t.Context(), req); status.Code(err) != want {
			t.Errorf("%v: %v, want %v", req, err, want)
		}
	}
}

func TestGRPCWatchIsAConversation(t *testing.T) {
	app := seededApp(t)
	c := dial(t, serve(t, app))
	stream, err := c.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Each reply is read before the next question is asked.
	for _, tenant := range []string{"acme", "globex", "acme"} {
		if err := stream.Send(&statsv1.QueryRequest{Tenant: tenant, Metric: "pv"}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil || got.GetTenant() != tenant || got.GetValue() != 500 {
			t.Fatalf("%s: %v, %v", tenant, got, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if n := app.Requests("acme"); n != 2 {
		t.Errorf("acme: %d requests, want 2", n)
	}
}

func TestGRPCFaults(t *testing.T) {
	app := seededApp(t)
	c := dial(t, serve(t, app))
	req := &statsv1.QueryRequest{Tenant: "acme", Metric: "pv"}
	for want, f := range map[codes.Code]Fault{
		codes.Unavailable:      {Kind: Error},
		codes.Internal:         {Kind: Error, Status: 500},
		codes.Unimplemented:    {Kind: Error, Status: 501},
		codes.DeadlineExceeded: {Kind: Error, Status: 504},
	} {
		mustSet(t, app, "acme", f)
		if _, err := c.Query(t.Context(), req); status.Code(err) != want || !strings.Contains(err.Error(), "fault error") {
			t.Errorf("%+v: %v, want %v", f, err, want)
		}
	}

	mustSet(t, app, "acme", Fault{Kind: Delay, DelayMS: 60})
	begin := time.Now()
	if got, err := c.Query(t.Context(), req); err != nil || got.GetValue() != 500 || time.Since(begin) < 60*time.Millisecond {
		t.Errorf("delay: %v, %v after %v", got, err, time.Since(begin))
	}

	mustSet(t, app, "acme", Fault{Kind: Hang})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	if _, err := c.Query(ctx, req); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("hang: %v", err)
	}

	for _, kind := range []Kind{Reset, Partial} {
		mustSet(t, app, "acme", Fault{Kind: kind})
		if got, err := c.Query(t.Context(), req); err == nil || strings.Contains(err.Error(), "aborted by a fault") {
			t.Errorf("%s: %v, %v; want a stream cut without a status", kind, got, err)
		}
		if _, err := c.Query(t.Context(), &statsv1.QueryRequest{Tenant: "globex", Metric: "pv"}); err != nil {
			t.Errorf("%s: another tenant: %v", kind, err)
		}
	}
}

// What gRPC's faults leave on the wire: the messages before the cut, whole, then
// nothing or half of one, and no trailers. The questions are sent at once, so
// that an answer is still being written when the fault strikes.
func TestGRPCFaultsCutWhereTheySay(t *testing.T) {
	app := seededApp(t)
	url := serve(t, app)
	question := frame(t, &statsv1.QueryRequest{Tenant: "acme", Metric: "pv"})
	r, err := app.Query(Query{Tenant: "acme", Metric: "pv", To: MaxTime})
	if err != nil {
		t.Fatal(err)
	}
	whole := frame(t, toProto(Query{To: MaxTime}, r))
	half := whole[:5+(len(whole)-5)/2]
	for range 20 {
		for kind, want := range map[Kind][]byte{
			Reset:   bytes.Repeat(whole, 2),
			Partial: append(bytes.Repeat(whole, 2), half...),
		} {
			mustSet(t, app, "acme", Fault{Kind: kind, Percent: 34}) // strikes the third of three
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+statsv1.Stats_Watch_FullMethodName, bytes.NewReader(bytes.Repeat(question, 4)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			resp, err := client(t, H2C).Do(req)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil || !bytes.Equal(got, want) || resp.Trailer.Get("Grpc-Status") != "" {
				t.Fatalf("%s: %v, trailers %v\n got %x\nwant %x", kind, err, resp.Trailer, got, want)
			}
		}
	}
}

// frame is m as gRPC sends it: not compressed, its length, itself.
func frame(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

func TestGRPCNeedsHTTP2(t *testing.T) {
	url := serve(t, newApp(t, Options{}))
	a := do(t, client(t, HTTP1), "POST", url+statsv1.Stats_Query_FullMethodName, "", "content-type", "application/grpc")
	if a.StatusCode != http.StatusNotFound {
		t.Errorf("over HTTP/1.1: %d", a.StatusCode)
	}
}
