package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/examples/statsapp/statsv1"
	"github.com/quadnine/quadnine/snapshot"
)

const acmePV = "/api/v2/metrics/query?tenant=acme&metric=pv"

func TestQueryOverEveryProtocol(t *testing.T) {
	for _, up := range []statsapp.Protocol{statsapp.H2C, statsapp.HTTP1, statsapp.Both} {
		for _, h2 := range []bool{true, false} {
			t.Run(fmt.Sprintf("up %s, down h2 %v", up, h2), func(t *testing.T) {
				s := newStand(t, standConfig{appProtocol: up})
				c := s.client(h2)
				s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, `"value":1000`)
				s.do(c, http.MethodPost, s.url("/api/v2/metrics/query"), strings.NewReader(`{"tenant":"acme","metric":"pv"}`)).has(t, 200, `"value":1000`)
				body := make([]byte, 10<<20)
				for i := range body {
					body[i] = byte(rand.Uint32())
				}
				got := s.do(c, http.MethodPost, s.url("/api/v2/echo?trailers=1"), bytes.NewReader(body), "Te", "trailers")
				sum := sha256.Sum256(body)
				if got.body != string(body) || got.trailer.Get("X-Echo-Sha256") != hex.EncodeToString(sum[:]) {
					t.Fatalf("echo of 10 MB: %d bytes, trailers %v", len(got.body), got.trailer)
				}
			})
		}
	}
}

func TestFaultOfOneTenant(t *testing.T) {
	s := newStand(t, standConfig{yaml: "tenantBreaker: {openFor: 0.1s}\n"})
	c := s.client(true)
	globex := "/api/v2/metrics/query?tenant=globex&metric=pv"
	s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
	if err := s.app.SetFault("acme", statsapp.Fault{Kind: statsapp.Error, Status: 500}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		a := s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
		if d := a.header.Get("X-Quadnine-Degraded"); !strings.HasPrefix(d, "stale; reason=") {
			t.Fatalf("x-quadnine-degraded: %q", d)
		}
		if a := s.do(c, http.MethodGet, s.url(globex), nil).has(t, 200, "1000"); a.header.Get("X-Quadnine-Degraded") != "" {
			t.Fatal("another tenant is degraded")
		}
	}
	if tr := s.await("open"); tr.Key.String() != "acme/pv" {
		t.Fatalf("opened: %v", tr.Key)
	}
	if page := s.admin("/breakers"); !strings.Contains(page, "acme") {
		t.Fatalf("/breakers does not show it:\n%s", page)
	}
	if page := s.admin("/explain?tenant=acme&metric=pv"); !strings.Contains(page, "upstream-5xx") {
		t.Fatalf("/explain does not say why:\n%s", page)
	}
	if err := s.app.SetFault("acme", statsapp.Fault{Kind: statsapp.None}); err != nil {
		t.Fatal(err)
	}
	for degraded := "yes"; degraded != ""; { // until the probe has closed it
		degraded = s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000").header.Get("X-Quadnine-Degraded")
	}
	s.await("half-open")
	s.await("closed")
	if page := s.admin("/explain?tenant=acme&metric=pv"); !strings.Contains(page, "would forward") {
		t.Fatalf("/explain after recovery:\n%s", page)
	}
	if page := s.admin("/stats/prometheus"); !strings.Contains(page, `quadnine_degraded_responses_total{step="stale",tenant="acme"}`) {
		t.Fatal("/stats/prometheus does not count the stale replies")
	}
}

func TestKilledUpstreamReturns(t *testing.T) {
	s := newStand(t, standConfig{})
	c := s.client(true)
	s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
	_ = s.app.Close()
	for range 20 {
		s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
	}
	if page := s.admin("/clusters"); !strings.Contains(page, s.appAddr) {
		t.Fatalf("/clusters:\n%s", page)
	}
	startApp(t, statsapp.Options{}, s.appAddr)
	for degraded := "yes"; degraded != ""; {
		degraded = s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000").header.Get("X-Quadnine-Degraded")
	}
}

func TestGRPC(t *testing.T) {
	s := newStand(t, standConfig{source: snapshot.Source{Degrade: []string{"/"}}}) // even where replies are stored
	conn, err := grpc.NewClient(s.side.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := statsv1.NewStatsClient(conn)
	got, err := client.Query(t.Context(), &statsv1.QueryRequest{Tenant: "acme", Metric: "pv"})
	if err != nil || got.GetValue() != 1000 {
		t.Fatalf("unary: %v, %v", got, err)
	}
	stream, err := client.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // each reply is seen before the next message is sent
		if err := stream.Send(&statsv1.QueryRequest{Tenant: "acme", Metric: "uv"}); err != nil {
			t.Fatal(err)
		}
		if r, err := stream.Recv(); err != nil || r.GetMetric() != "uv" {
			t.Fatalf("bidi: %v, %v", r, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("end of the stream: %v", err)
	}
	if _, err := client.Query(t.Context(), &statsv1.QueryRequest{Tenant: "acme", Metric: "no-such"}); status.Code(err) != codes.NotFound {
		t.Fatalf("the upstream's status: %v", err)
	}
	_ = s.app.Close()
	for {
		_, err := client.Query(t.Context(), &statsv1.QueryRequest{Tenant: "acme", Metric: "pv"})
		if st := status.Convert(err); st.Code() == codes.Unavailable && strings.Contains(st.Message(), "quadnine: ") {
			break // explained by the sidecar, as a gRPC status
		} else if err == nil {
			t.Fatal("a dead upstream answered")
		}
	}
}

func TestRingMakesAtMostTwoHops(t *testing.T) {
	addrs := make([]string, 3)
	for i := range addrs { // free ports for sidecars that must know one another beforehand
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = ln.Addr().String()
		_ = ln.Close()
	}
	sides := make([]*sidecar, len(addrs))
	for i, a := range addrs {
		sides[i] = startTestSidecar(t, snapshot.Source{
			Upstreams: []string{"h2c://127.0.0.1:1"}, Peers: []string{"h2c://" + addrs[(i+1)%3]}, Trust: []string{"127.0.0.0/8"},
		}, "", nil, a, nil, standConfig{})
	}
	s := &stand{t: t, side: sides[0]}
	c := s.client(true)
	for range 20 {
		s.do(c, http.MethodGet, s.url(acmePV), nil).has(t, 503, "quadnine: ")
	}
	for i, limit := range []uint64{20, 20, 0} {
		requests := uint64(0)
		for _, tot := range sides[i].tel.Registry.Tenants() {
			requests += tot.Requests()
		}
		if requests > limit {
			t.Errorf("sidecar %d saw %d requests, at most %d may reach it", i, requests, limit)
		}
	}
}

func TestBadBytesAreRefusedAndHarmNobody(t *testing.T) {
	s := newStand(t, standConfig{})
	good := s.client(true)
	for name, c := range map[string]struct{ send, want string }{
		"two hosts":           {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400 "},
		"conflicting lengths": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP/1.1 400 "},
		"length and chunked":  {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 "},
		"oversized header":    {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"bad preface":         {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "HTTP/1.1 "},
		"broken frame":        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x05\x04\x00\x00\x00\x00\x00hello", "\x07\x00\x00\x00\x00\x00"}, // a GOAWAY frame on stream 0
		"websocket":           {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 501 "},
		"not http":            {"\x16\x03\x01hello\r\n\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", s.side.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.WriteString(nc, c.send); err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			buf := make([]byte, 4096)
			for !strings.Contains(got.String(), c.want) {
				n, err := nc.Read(buf)
				got.Write(buf[:n])
				if err != nil {
					break
				}
			}
			if !strings.Contains(got.String(), c.want) {
				t.Fatalf("got %q, want %q in it", got.String(), c.want)
			}
			s.do(good, http.MethodGet, s.url(acmePV), nil).has(t, 200, "1000")
		})
	}
}

func TestStopLosesNoRequest(t *testing.T) {
	const n = 64
	arrived, release := make(chan struct{}, n), make(chan struct{})
	s := newStand(t, standConfig{source: snapshot.Source{Upstreams: []string{startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			arrived <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "answer")
	}))}}})
	errs := make(chan error, n)
	for i := range n {
		c := s.client(i%2 == 0)
		go func() {
			req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, s.url(acmePV), nil)
			if err == nil {
				var resp *http.Response
				if resp, err = c.Do(req); err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if err == nil && resp.StatusCode != http.StatusOK {
						err = fmt.Errorf("status %d", resp.StatusCode)
					}
				}
			}
			errs <- err
		}()
	}
	for range n { // all of them are in flight
		<-arrived
	}
	idle, err := net.Dial("tcp", s.side.Addr()) // its end says that the draining has begun
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
	in := bufio.NewReader(idle)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	drained := make(chan error, 1)
	go func() { drained <- s.side.proxy.Drain(t.Context()) }()
	if b, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("an idle connection at the draining: %q, %v", b, err)
	}
	_ = idle.Close()
	close(release)
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := <-errs; err != nil {
			t.Errorf("lost: %v", err)
		}
	}
}

func TestDemo(t *testing.T) {
	var out bytes.Buffer
	d := newDemoRun(&out)
	d.countsOnly = true
	if err := d.run(t.Context(), false); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"traffic", "fault", "isolation", "model", "recovery", "rollback", "outage", "summary", "· 0 lost ·", "100.000 %", "8/8 goals ✓"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not say %q:\n%s", want, out.String())
		}
	}
}
