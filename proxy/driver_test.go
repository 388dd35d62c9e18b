//go:build unix

package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// TestEveryDriver: requests with bodies of all sizes over real sockets, both
// protocols on both sides, two shards, under each driver.
func TestEveryDriver(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	app := &http.Server{Protocols: both, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // whole: over HTTP/1.1 net/http does not read on once it writes
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = app.Serve(ln) })
	t.Cleanup(func() {
		_ = app.Close()
		serving.Wait()
	})
	drivers := []shard.Driver{shard.Auto, shard.Portable}
	if runtime.GOOS == "linux" {
		drivers = append(drivers, shard.Epoll)
	}
	for _, d := range drivers {
		for _, up := range []snapshot.Protocol{snapshot.H1, snapshot.H2C} {
			t.Run(fmt.Sprintf("%v to %v", d, up), func(t *testing.T) { everySize(t, d, up, ln.Addr().String()) })
		}
	}
}

// everySize echoes bodies through a server with that driver.
func everySize(t *testing.T, d shard.Driver, up snapshot.Protocol, app string) {
	t.Helper()
	s, err := New(Options{
		Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Shards: 2, Driver: d,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, l := cluster("app", app), listener("in", "127.0.0.1:0", "app")
	c.Protocol = up
	f := l.Inline.Hosts[0].Routes[0].Forward
	f.HasIdle, f.Idle = true, time.Minute
	if err := s.Listen(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(snapshotOf([]*snapshot.Listener{l}, c)); err != nil {
		t.Fatal(err)
	}
	url := "http://" + s.Addrs("in")[0].String() + "/"
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			p := new(http.Protocols)
			p.SetHTTP1(i%2 == 0)
			p.SetUnencryptedHTTP2(i%2 == 1)
			tr := &http.Transport{Protocols: p}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			for _, size := range []int{1, 200, 16 << 10, 64 << 10, 1 << 20, 1} {
				body := bytes.Repeat([]byte{byte(i), byte(size), byte(size >> 8)}, size/3+1)
				resp, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
				if err != nil {
					t.Errorf("caller %d, %d bytes: %v", i, size, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || sha256.Sum256(got) != sha256.Sum256(body) {
					t.Errorf("caller %d, %d bytes: status %d, %d bytes back, %v", i, size, resp.StatusCode, len(got), err)
				}
			}
		})
	}
	callers.Wait()
}
