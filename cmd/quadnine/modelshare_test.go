package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/client"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/telemetry"
)

// shortDir returns a folder whose path leaves room for a socket's name: the path
// of a socket has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "share") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// scalar reads a tensor of one F64.
func scalar(t *testing.T, v client.View, name string) float64 {
	t.Helper()
	_, b, ok := v.Tensor(name)
	if !ok || len(b) != 8 {
		t.Fatalf("tensor %s has %d bytes", name, len(b))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// What a process computes from what it maps is what the sidecar answers, before
// and after a switch; and the gauges show it.
func TestOtherProcessesComputeWhatTheSidecarAnswers(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(shortDir(t), "s")
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir(), share: shareFlags{socket: socket, clients: share.DefaultClients, ready: share.DefaultReady}}})
	c := s.client(true)
	ask := func(metric string) float64 {
		q, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: metric, To: statsapp.MaxTime})
		if err != nil {
			t.Fatal(err)
		}
		return q.Value
	}
	uv, pv := ask("uv"), ask("pv")
	now := delta.Canary{Weight: 0, PromoteAfter: time.Second, MinRequests: 1}
	dropVersion(t, dir, 1, weights{2, 1}, now)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shared, err := client.Open(ctx, socket, "score")
	if err != nil {
		t.Fatal(err)
	}
	same := func(n uint64) {
		t.Helper()
		var got float64
		for number := uint64(0); number != n; {
			lease, err := shared.Acquire(0)
			if err != nil {
				t.Fatal(err)
			}
			err = lease.With(func(v client.View) error {
				number, got = v.Info().Number, scalar(t, v, "scale")*(uv/pv)+scalar(t, v, "bias")
				return nil
			})
			lease.Release()
			if err != nil || ctx.Err() != nil {
				t.Fatalf("version %d: %v, %v", number, err, ctx.Err())
			}
		}
		want, version, a := s.score(c, "u")
		if a.status != http.StatusOK || version != (&loader.Info{Model: "score", Number: n}).String() || got != want {
			t.Errorf("another process computes %v from version %d, the sidecar answers %v by %s", got, n, want, version)
		}
	}
	same(1)
	dropVersion(t, dir, 2, weights{3, 1}, now)
	same(2)
	page := s.admin("/stats/prometheus")
	if n := sample(t, page, `quadnine_model_share_processes{model="score"}`); n != 1 {
		t.Errorf("%v processes, want 1", n)
	}
	if n := sample(t, page, `quadnine_model_share_held_bytes{model="score"}`); n != 0 {
		t.Errorf("%v bytes are held, want none", n)
	}
	if n := sample(t, page, "quadnine_model_share_sealed_bytes"); !(n > 0) { // the test's process owns the store
		t.Errorf("%v bytes of sealed copies, want some", n)
	}
	if err := shared.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSharedEventsAreCountedAndTold(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(shortDir(t), "s")
	_, tel, j := followingWith(t, modelsConfig{dir: dir, share: shareFlags{socket: socket, clients: share.DefaultClients, ready: share.DefaultReady, reclaim: 20 * time.Millisecond}})
	now := delta.Canary{Weight: 0, PromoteAfter: time.Second, MinRequests: 1}
	dropVersion(t, dir, 1, weights{2, 1}, now)
	c, err := client.Open(t.Context(), socket, "score")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.Acquire(0)
	if err != nil {
		t.Fatal(err)
	}
	dropVersion(t, dir, 2, weights{3, 1}, now)
	j.until(t, string(loader.EventActive), 2) // two at once would come in any order
	dropVersion(t, dir, 3, weights{4, 1}, now)
	records := j.until(t, string(loader.EventHeld), 1)
	held := records[len(records)-1]
	if reason, _ := held["reason"].(string); held["level"] != "WARN" || !strings.HasPrefix(reason, "held by pid ") {
		t.Errorf("%v", held)
	}
	<-lease.Done()
	if err := lease.With(func(client.View) error { return nil }); !errors.Is(err, client.ErrRevoked) {
		t.Errorf("the late reader got %v", err)
	}
	lease.Release()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	records = append(records, j.until(t, string(loader.EventUnloadSuccess), 1)...)
	if !slices.ContainsFunc(records, func(r map[string]any) bool { return r["msg"] == string(loader.EventDetached) }) {
		j.until(t, string(loader.EventDetached), 0)
	}
	for id, want := range map[telemetry.CounterID]uint64{telemetry.ModelShareRevoked: 1, telemetry.ModelShareDetached: 1} {
		if n := tel.Registry.Total(id); n != want {
			t.Errorf("counter %d is %d, want %d", id, n, want)
		}
	}
}

func TestShareFlagsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no models":     {[]string{"--model-share", "s"}, "give --models or --model-bucket too"},
		"no size":       {[]string{"--models", t.TempDir(), "--model-share", "s", "--model-share-sealed", "much"}, "--model-share-sealed"},
		"negative":      {[]string{"--models", t.TempDir(), "--model-share", "s", "--model-share-ready", "-1s"}, "want more than 0"},
		"zero clients":  {[]string{"--models", t.TempDir(), "--model-share", "s", "--model-share-clients", "0"}, "want more than 0"},
		"off":           {[]string{"--models", t.TempDir(), "--model-share", "s", "--model-share-sealed", "off"}, "or a number of bytes\n"},
		"no socket":     {[]string{"--models", t.TempDir(), "--model-share", t.TempDir()}, "is no socket"},
		"no such place": {[]string{"--models", t.TempDir(), "--model-share", "/no/such/folder/s"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append([]string{"run", "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--model-store", t.TempDir()}, c.args...)
			if code := execute(t.Context(), args, &out, &errs); code == exitOK || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit %d, %q, want %q", code, errs.String(), c.want)
			}
		})
	}
}

// The page's commands run: the sidecar's here, the example's in conformance.
func TestSharedPage(t *testing.T) {
	commands := commandsOf(t, "../../docs/shared.md")
	if len(commands) != 2 {
		t.Fatalf("%d commands, want 2", len(commands))
	}
	if words := shellWords(t, commands[1].line); words[0] != "python3" || len(words) < 4 {
		t.Errorf("%q", commands[1].line)
	} else if _, err := os.Stat(filepath.Join("..", "..", words[1])); err != nil {
		t.Error(err)
	}
	words := shellWords(t, strings.Replace(commands[0].line, "127.0.0.1:9090", freeAddrs(t, 1)[0], 1))
	t.Chdir(shortDir(t))
	if err := os.Mkdir("drops", 0o755); err != nil {
		t.Fatal(err)
	}
	dropVersion(t, "drops", 1, weights{2, 1}, delta.Canary{Weight: 5, PromoteAfter: time.Hour, MinRequests: 1})
	runInBackground(t, append(words[1:], "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--model-store", t.TempDir()))
	c, err := client.Open(t.Context(), "models.sock", "score")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
