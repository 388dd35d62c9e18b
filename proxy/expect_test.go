package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// TestWhoAnswersExpect: without proxy_100_continue the sidecar does, at once, and
// keeps the app's 1xx responses to itself; with it all of that is between the
// caller and the app. Both are what Envoy 1.40 does.
func TestWhoAnswersExpect(t *testing.T) {
	for name, tc := range map[string]struct {
		proxy100   bool
		head       string // besides the first line
		sent       []int  // statuses before the body is sent
		app        string // the Expect that the app gets
		afterwards []int
	}{
		"the sidecar":       {false, "Expect: 100-continue\r\n", []int{100}, "", []int{200}},
		"the app":           {true, "Expect: 100-continue\r\n", []int{102, 100}, "100-continue", []int{200}},
		"nobody, for us":    {false, "", nil, "", []int{200}},
		"nobody, passed on": {true, "", []int{102, 100}, "", []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newManaged(t)
				up := r.net.Listen("a:80")
				t.Cleanup(up.Kill)
				seen := make(chan string, 1)
				go func() {
					c, err := up.Accept()
					if err != nil {
						return
					}
					req, err := http.ReadRequest(bufio.NewReader(c))
					if err != nil {
						t.Error(err)
						return
					}
					seen <- req.Header.Get("Expect")
					_, _ = io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}()
				l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
				l.HTTP.Envoy, l.HTTP.Proxy100 = true, tc.proxy100
				c.Protocol = snapshot.H1
				r.apply(snapshotOf([]*snapshot.Listener{l}, c))
				nc, err := r.net.Dial(t.Context(), "sidecar:80")
				if err != nil {
					t.Fatal(err)
				}
				_, _ = fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n%s\r\n", tc.head)
				heads := statuses(nc)
				for _, want := range tc.sent {
					if got := <-heads; got != want {
						t.Errorf("got %d, want %d", got, want)
					}
				}
				time.Sleep(time.Second)
				select {
				case got := <-heads:
					t.Errorf("got %d besides", got)
				default:
				}
				_, _ = io.WriteString(nc, "hello")
				for _, want := range tc.afterwards {
					if got := <-heads; got != want {
						t.Errorf("then got %d, want %d", got, want)
					}
				}
				if got := <-seen; got != tc.app {
					t.Errorf("the app got Expect: %q, want %q", got, tc.app)
				}
				_ = nc.Close()
				r.settled()
			})
		})
	}
}

// statuses gives the status of every head that comes.
func statuses(nc net.Conn) <-chan int {
	out := make(chan int, 16)
	go func() {
		for in := bufio.NewReader(nc); ; {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return
			}
			_ = resp.Body.Close()
			out <- resp.StatusCode
		}
	}()
	return out
}

// TestMaxGRPCTimeout: a gRPC request's time-out is what it says itself, within
// the route's bound, and the app is told.
func TestMaxGRPCTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		max     time.Duration
		has     bool
		says    string
		plain   bool // no gRPC
		told    string
		took    time.Duration
		timeout string // x-envoy-expected-rq-timeout-ms
	}{
		"without":         {0, false, "1S", false, "1S", 15 * time.Second, "15000"},
		"no gRPC":         {time.Second, true, "", true, "", 15 * time.Second, "15000"},
		"less":            {3 * time.Second, true, "1S", false, "1000m", time.Second, "1000"},
		"more":            {3 * time.Second, true, "1M", false, "3000m", 3 * time.Second, "3000"},
		"nothing":         {3 * time.Second, true, "", false, "3000m", 3 * time.Second, "3000"},
		"no bound":        {0, true, "1M", false, "60000m", time.Minute, "60000"},
		"no bound at all": {0, true, "", false, "", 5 * time.Minute, ""},
		"days":            {0, true, "40H", false, "144000S", 5 * time.Minute, "144000000"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := make(chan http.Header, 1)
				r := newManaged(t)
				r.app("a:80", func(_ http.ResponseWriter, req *http.Request) {
					told <- req.Header
					<-req.Context().Done()
				})
				l := listener("in", "sidecar:80", "a")
				l.HTTP.Envoy, l.HTTP.StreamIdleTimeout = true, 5*time.Minute
				f := l.Inline.Hosts[0].Routes[0].Forward
				f.MaxGRPC, f.HasMaxGRPC = tc.max, tc.has
				r.apply(snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80")))
				headers := []string{"content-type", "application/grpc"}
				if tc.plain {
					headers[1] = "text/plain"
				}
				if tc.says != "" {
					headers = append(headers, "grpc-timeout", tc.says)
				}
				begin := time.Now()
				got, err := r.try(time.Hour, r.request(http.MethodPost, "/", nil, headers...))
				if err != nil {
					t.Fatal(err)
				}
				if d := time.Since(begin).Round(100 * time.Millisecond); d != tc.took {
					t.Errorf("it took %v, want %v", d, tc.took)
				}
				if !tc.plain && got.Header.Get("grpc-status") != "14" {
					t.Errorf("got %d %v", got.StatusCode, got.Header)
				}
				h := <-told
				wantField(t, h, "grpc-timeout", tc.told)
				wantField(t, h, "x-envoy-expected-rq-timeout-ms", tc.timeout)
				r.settled()
			})
		})
	}
}
