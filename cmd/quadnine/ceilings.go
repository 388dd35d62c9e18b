package main

import (
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/internal/cgroup"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/xds/bootstrap"
)

// ceilingFlags are what the command line says of the process's bounds.
type ceilingFlags struct {
	connections int64  // 0: derived
	memory      string // "": derived; "off"; or a size
}

// spareFiles are descriptors for listeners, logs, model files, the admin port and
// the management stream.
const spareFiles = 128

// maxConnections is how many callers' connections the descriptors of the process
// suffice for: each may need one to an HTTP/1.1 upstream.
func maxConnections() int64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return max((int64(l.Cur)-spareFiles)/2, 1)
}

// limits turns flags, the bootstrap (nil without one) and what the system says
// into the data plane's limits. Where neither GOMEMLIMIT nor the runtime was told,
// the runtime is: collections then keep to the ceiling.
func (f *ceilingFlags) limits(boot *bootstrap.Bootstrap, log *slog.Logger) (l proxy.Limits, err error) {
	l.Connections = maxConnections()
	if boot != nil && boot.Overload.MaxConnections > 0 {
		l.Connections = min(l.Connections, boot.Overload.MaxConnections)
	}
	if f.connections < 0 {
		return l, usage(fmt.Errorf("--max-connections: is %d: want a number above 0, or 0 for what the limit of open files allows", f.connections))
	}
	if f.connections > 0 {
		l.Connections = f.connections
	}
	if boot != nil && len(boot.Overload.Memory) > 0 && f.memory == "" {
		limit, used := groupMemory("/")
		return configured(l, &boot.Overload, log, limit, used), nil
	}
	told := debug.SetMemoryLimit(-1) // GOMEMLIMIT
	n, err := f.ceiling(told)
	if err != nil || n == 0 {
		return l, err
	}
	if n != told {
		debug.SetMemoryLimit(n)
	}
	l.Memory = []proxy.MemoryLimit{{Name: proxy.HeapLimit, Max: n}}
	return l, nil
}

// ceiling is the memory ceiling in bytes, 0 for none: --max-memory, else
// GOMEMLIMIT, else nine tenths of the control group's limit.
func (f *ceilingFlags) ceiling(told int64) (int64, error) {
	switch {
	case f.memory == "off":
		return 0, nil
	case f.memory != "":
		n, err := parseSize(f.memory)
		if err != nil {
			return 0, usage(fmt.Errorf("--max-memory: %w", err))
		}
		return n, nil
	case told != math.MaxInt64:
		return told, nil
	}
	n, _ := groupMemory("/")
	return n - n/10, nil
}

// configured takes the limits of an overload manager. limit and used are those of
// the control group. The runtime collects in time for all of them, unless it was told
// less; of the group's limit a tenth is for what is not the runtime's.
func configured(l proxy.Limits, o *bootstrap.Overload, log *slog.Logger, limit int64, used func() int64) proxy.Limits {
	for _, m := range o.Memory {
		out := proxy.MemoryLimit{Name: m.Name, Max: m.Max}
		if m.Cgroup {
			if used == nil {
				log.Warn("memory limit is not watched: the process has no control group with a limit, or it cannot be read", "monitor", m.Name)
				continue
			}
			if out.Max == 0 || limit < out.Max {
				out.Max = limit
			}
			out.Used = used
			if n := out.Max - out.Max/10; debug.SetMemoryLimit(-1) == math.MaxInt64 {
				debug.SetMemoryLimit(n)
			}
		} else if told := debug.SetMemoryLimit(-1); m.Max < told {
			debug.SetMemoryLimit(m.Max)
		}
		l.Memory = append(l.Memory, out)
	}
	actions := map[string]proxy.Action{
		bootstrap.ActionStopRequests: proxy.RefuseRequests, bootstrap.ActionNoKeepAlive: proxy.EndKeepAlives,
		bootstrap.ActionStopConnections: proxy.RefuseConnections, bootstrap.ActionRejectConnections: proxy.RefuseConnections,
	}
	l.Triggers = []proxy.Trigger{}
	for _, t := range o.Triggers {
		for _, m := range l.Memory {
			if m.Name == t.Monitor {
				l.Triggers = append(l.Triggers, proxy.Trigger{Action: actions[t.Action], Limit: t.Monitor, From: t.From, Full: t.Full})
			}
		}
	}
	return l
}

// sizes are the units of GOMEMLIMIT.
var sizes = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// leastMemory is the smallest ceiling: below it the process alone would be over.
const leastMemory = 16 << 20

// parseSize reads a memory limit of a process.
func parseSize(s string) (int64, error) {
	n, err := parseBytes(s)
	if err != nil {
		return 0, fmt.Errorf("%w, or off", err)
	}
	if n < leastMemory {
		return 0, fmt.Errorf("%s is less than 16MiB, which the process needs for itself", s)
	}
	return n, nil
}

// parseBytes reads a number of bytes.
func parseBytes(s string) (int64, error) {
	for _, u := range sizes {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is no size: write 512MiB, 2GiB or a number of bytes", s)
}

// groupMemory returns the lowest memory limit of the process's control groups, 0
// without one, and what reads the memory in use of the group that has it; nil
// when there is none. root is "/", or in tests a directory with /proc and /sys.
func groupMemory(root string) (limit int64, used func() int64) {
	g := cgroup.Memory(root)
	if g == nil {
		return 0, nil
	}
	return g.Limit(), g.Used
}
