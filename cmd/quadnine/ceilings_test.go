package main

import (
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/xds/bootstrap"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"512MiB": 512 << 20, "2GiB": 2 << 30, "16777216": 16 << 20, "33554432B": 32 << 20, "1MiB": 0, "x": 0, "9999999TiB": 0, "-1": 0, "512MB": 0} {
		if n, err := parseSize(in); n != want || (err != nil) != (want == 0) {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
}

// TestLimitsOfTheProcess: flags lie over the bootstrap, which lies over the
// system; GOMEMLIMIT is the ceiling where nothing else is said.
func TestLimitsOfTheProcess(t *testing.T) {
	told := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(told) })
	boot := &bootstrap.Bootstrap{Overload: bootstrap.Overload{
		MaxConnections: 5, Memory: []bootstrap.MemoryLimit{{Name: "heap", Max: 1 << 30}},
		Triggers: []bootstrap.MemoryTrigger{{Action: bootstrap.ActionStopRequests, Monitor: "heap", From: 0.5, Full: 0.6}},
	}}
	for name, c := range map[string]struct {
		flags       ceilingFlags
		boot        *bootstrap.Bootstrap
		told        int64
		connections int64
		memory      int64
		triggers    int
		err         string
	}{
		"GOMEMLIMIT": {told: 1 << 29, connections: maxConnections(), memory: 1 << 29},
		"flags":      {flags: ceilingFlags{7, "64MiB"}, boot: boot, told: 1 << 29, connections: 7, memory: 64 << 20},
		"off":        {flags: ceilingFlags{7, "off"}, told: 1 << 29, connections: 7},
		"bootstrap":  {boot: boot, told: 1 << 32, connections: 5, memory: 1 << 30, triggers: 1},
		"negative":   {flags: ceilingFlags{connections: -1}, err: "--max-connections"},
		"no size":    {flags: ceilingFlags{memory: "lots"}, err: "--max-memory"},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(max(c.told, 1<<28))
			l, err := c.flags.limits(c.boot, slog.New(slog.DiscardHandler))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := int64(0)
			if len(l.Memory) > 0 {
				got = l.Memory[0].Max
			}
			if l.Connections != c.connections || got != c.memory || len(l.Triggers) != c.triggers {
				t.Errorf("%+v", l)
			}
			if c.triggers > 0 && l.Triggers[0] != (proxy.Trigger{Action: proxy.RefuseRequests, Limit: "heap", From: 0.5, Full: 0.6}) {
				t.Errorf("%+v", l.Triggers)
			}
			if now := debug.SetMemoryLimit(-1); c.memory > 0 && now != c.memory {
				t.Errorf("the runtime keeps to %d, want %d", now, c.memory)
			}
		})
	}
	if maxConnections() < 1 || maxConnections() > math.MaxInt32 {
		t.Errorf("%d connections", maxConnections())
	}
}

// TestGroupsCeiling: the runtime collects in time for the control group's limit too,
// unless it was told another one.
func TestGroupsCeiling(t *testing.T) {
	told := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(told) })
	const limit = 10 << 30
	used := func() int64 { return 7 }
	for _, c := range []struct{ told, max, want, runtime int64 }{
		{math.MaxInt64, 0, limit, 9 << 30},
		{math.MaxInt64, 5 << 30, 5 << 30, 9 << 29},
		{1 << 30, 0, limit, 1 << 30},
	} {
		debug.SetMemoryLimit(c.told)
		o := bootstrap.Overload{Memory: []bootstrap.MemoryLimit{{Name: "group", Max: c.max, Cgroup: true}}}
		l := configured(proxy.Limits{}, &o, slog.New(slog.DiscardHandler), limit, used)
		if len(l.Memory) != 1 || l.Memory[0].Max != c.want || l.Memory[0].Used() != 7 {
			t.Errorf("%+v", l)
		}
		if now := debug.SetMemoryLimit(-1); now != c.runtime {
			t.Errorf("the runtime keeps to %d, want %d", now, c.runtime)
		}
		if l := configured(proxy.Limits{}, &o, slog.New(slog.DiscardHandler), 0, nil); len(l.Memory) != 0 {
			t.Errorf("without a group: %+v", l)
		}
	}
}

// TestCeilingsAreKept: from the command line to the wire, the admin port and the
// metrics.
func TestCeilingsAreKept(t *testing.T) {
	told := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(told) })
	s := newStand(t, standConfig{ceilings: ceilingFlags{connections: 2, memory: "4GiB"}})
	for i := range 3 {
		nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.side.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
		if _, err := nc.Read(make([]byte, 1)); (err == nil) != (i < 2) {
			t.Errorf("connection %d of 2: %v", i+1, err)
		}
	}
	if got := s.admin("/memory"); !strings.Contains(got, `"max": 4294967296`) || !strings.Contains(got, `"connections": 2`) || !strings.Contains(got, `"max_connections": 2`) || strings.Contains(got, `"used": 0`) {
		t.Errorf("/memory says %s", got)
	}
	if got := s.admin("/stats/prometheus"); !strings.Contains(got, `quadnine_downstream_connections_refused_total{reason="max-connections"} 1`) || !strings.Contains(got, "quadnine_memory_max_bytes 4.294967296e+09") {
		t.Error("the metrics say nothing of it")
	}
	if got := s.admin("/ready"); got != "LIVE\n" {
		t.Errorf("/ready says %q", got)
	}
}

// TestReadySaysOverloaded: it stays ready, for the requests under way; who sends new
// ones reads why they are refused.
func TestReadySaysOverloaded(t *testing.T) {
	told := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(told) })
	s := newStand(t, standConfig{ceilings: ceilingFlags{memory: "64MiB"}})
	c := s.client(false)
	s.do(c, http.MethodGet, s.url("/"), nil)
	ballast := make([]byte, 70<<20)
	runtime.GC()
	for s.do(http.DefaultClient, http.MethodGet, "http://"+s.side.AdminAddr()+"/ready", nil).body == "LIVE\n" {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	if got := s.admin("/ready"); !strings.HasPrefix(got, "LIVE\noverloaded: end-keepalives, refuse-connections, refuse-requests") {
		t.Errorf("/ready says %q", got)
	}
	ballast[0]++ // it lives until here
}
