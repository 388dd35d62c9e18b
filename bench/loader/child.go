package loader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/patch"
)

// ChildArg is the first argument of a process that does one run; the second is
// what to do.
const ChildArg = "loader-run"

// PatchArg is the only argument of a process that applies a patch for a loader.
const PatchArg = "loader-patch"

// modelName is what the measured model is called.
const modelName = "bench"

// job is one run.
type job struct {
	Kind    string // activate, calls, read, sha256, blake3, blake3-groups or blake3-file
	File    string // what is read or hashed
	Store   string // of activate and calls: has version 1 active; of activate of version 1: empty
	Watch   string // the watched folder; it holds the drop
	Drop    string // the drop's folder; its manifest is not in place yet
	Version uint64 // that the drop brings
	Mode    loader.Mode
	Cold    bool // the drop's files are not in the page cache
}

// cost is what one step took.
type cost struct {
	Wall time.Duration `json:"wall_ns"`
	CPU  time.Duration `json:"cpu_ns"`
}

// sample is what a run measured.
type sample struct {
	Steps   map[string]cost
	Private int64              // anonymous memory added, bytes
	Shared  int64              // pages of files added to the process's resident memory, bytes
	Copied  int64              // bytes of the version that are private memory
	Copies  int64              // extents and rows that they are of
	Read    int64              // bytes read from the drop
	Dirty   int64              // bytes read for the whole-version proof beside it
	Nanos   map[string]float64 // of calls: ns each
}

// The steps of an activation.
const (
	stepLoaded = "rename → verified and mapped"
	stepProved = "whole-version proof and file digests"
	stepWarmed = "prefault and warm-up"
	stepActive = "rename → active (canary weight 0)"
	stepAll    = "all" // of a run with one step
)

// manifestTemp is what the manifest is called before the commit.
const manifestTemp = ".manifest"

// Child does the run that arg says and writes what it measured to out.
func Child(ctx context.Context, arg string, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		return fmt.Errorf("what to run: %w", err)
	}
	s, err := j.do(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", j.Kind, err)
	}
	return json.NewEncoder(out).Encode(s)
}

func (j job) do(ctx context.Context) (sample, error) {
	switch j.Kind {
	case "activate":
		return j.activate(ctx)
	case "calls":
		return j.calls(ctx)
	case "read":
		return one(func() error {
			_, err := os.ReadFile(j.File)
			return err
		})
	case "sha256":
		return one(func() error { return j.stream(sha256.New()) })
	case "blake3-file":
		return one(func() error { return j.stream(blake3.New(32, nil)) })
	case "blake3-groups":
		b, err := os.ReadFile(j.File)
		if err != nil {
			return sample{}, err
		}
		return one(func() error {
			_, err := delta.LeavesOf(ctx, bytes.NewReader(b), delta.Options{})
			return err
		})
	case "blake3":
		b, err := os.ReadFile(j.File)
		if err != nil {
			return sample{}, err
		}
		return one(func() error {
			sum := blake3.Sum256(b)
			runtime.KeepAlive(sum)
			return nil
		})
	}
	return sample{}, fmt.Errorf("no such run: %q", j.Kind)
}

// stream shows the file to w in pieces that stay in a core's cache.
func (j job) stream(w io.Writer) error {
	f, err := os.Open(j.File)
	if err != nil {
		return err
	}
	defer f.Close()
	// The struct hides File's WriteTo, which would choose its own buffer.
	_, err = io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return err
}

// one measures f as a run of one step, and the memory it leaves behind.
func one(f func() error) (s sample, err error) {
	before, err := memory()
	if err != nil {
		return s, err
	}
	m, err := start()
	if err != nil {
		return s, err
	}
	if err := f(); err != nil {
		return s, err
	}
	c, err := m.since()
	if err != nil {
		return s, err
	}
	after, err := memory() // without a collection: what was read is garbage by now
	s = sample{Steps: map[string]cost{stepAll: c}, Private: after.private - before.private, Shared: after.shared - before.shared}
	return s, err
}

// activate commits a drop and measures until its version is active.
func (j job) activate(ctx context.Context) (s sample, err error) {
	src, err := loader.Watch(j.Watch, 0)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	l, err := loader.Open(ctx, loader.Options{Store: j.Store, Source: src, Mode: j.Mode, Patch: patch.Child{Command: []string{"/proc/self/exe", PatchArg}}})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if i, _ := l.Current(modelName); i.Number != j.Version-1 {
		return s, fmt.Errorf("the store brought version %d back, want %d", i.Number, j.Version-1)
	}
	runtime.GC()
	debug.FreeOSMemory()
	if err := quiet(ctx); err != nil {
		return s, err
	}
	if j.Cold {
		if err := j.forget(); err != nil {
			return s, err
		}
	}
	before, err := memory()
	if err != nil {
		return s, err
	}
	if err := j.commit(ctx, l, &s); err != nil {
		return s, err
	}
	runtime.GC()
	debug.FreeOSMemory() // what stays is counted, not what is garbage
	after, err := memory()
	if err != nil {
		return s, err
	}
	i, ok := l.Current(modelName)
	if !ok || i.Number != j.Version {
		return s, fmt.Errorf("version %d is not active", j.Version)
	}
	s.Private, s.Shared, s.Copied, s.Copies = after.private-before.private, after.shared-before.shared, i.Copied, i.Copies
	return s, nil
}

// forget drops the files of the drop from the page cache.
func (j job) forget() error {
	list, err := os.ReadDir(j.Drop)
	if err != nil {
		return err
	}
	for _, e := range list {
		f, err := os.Open(filepath.Join(j.Drop, e.Name()))
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()) // dirty pages would stay
		if err != nil {
			return fmt.Errorf("drop %s from the page cache: %w", e.Name(), err)
		}
	}
	return nil
}

// commit renames the manifest and stores what the steps until active cost. Its
// thread goes before all others, where that is allowed: the process's CPU time must
// be read when a step ends, not when the next one is under way.
func (j job) commit(ctx context.Context, l *loader.Loader, s *sample) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20) // without the right to it the figures are a little higher
	defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0) }()
	from, to := filepath.Join(j.Drop, manifestTemp), filepath.Join(j.Drop, delta.ManifestName)
	begin, err := start()
	if err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	s.Steps = make(map[string]cost)
	last := cost{}
	for {
		var ev loader.Event
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case ev = <-l.Events():
		}
		if ev.Kind == loader.EventQuarantined || ev.Kind == loader.EventStore {
			return fmt.Errorf("%s: %s", ev.Kind, ev.Reason)
		}
		if ev.Version != j.Version {
			continue
		}
		c, err := begin.since()
		if err != nil {
			return err
		}
		c.Wall = ev.Time.Sub(begin.at) // the loader's stamp: reading it late costs nothing
		step := cost{Wall: c.Wall - last.Wall, CPU: c.CPU - last.CPU}
		switch ev.Kind {
		case loader.EventLoaded:
			s.Steps[stepLoaded], s.Read = c, ev.Bytes
		case loader.EventProved:
			s.Steps[stepProved], s.Dirty = step, ev.Bytes
		case loader.EventWarmed:
			s.Steps[stepWarmed] = step
		case loader.EventActive:
			s.Steps[stepActive] = c
			return nil
		default:
			continue
		}
		last = c
	}
}

// meter is a point in time and in the process's CPU use.
type meter struct {
	at  time.Time
	cpu time.Duration
}

func start() (meter, error) {
	c, err := used()
	return meter{time.Now(), c}, err
}

func (m meter) since() (cost, error) {
	wall := time.Since(m.at)
	c, err := used()
	return cost{wall, c - m.cpu}, err
}

// used is the CPU time of the process, user and system, all threads, and of its
// children that have ended.
func used() (sum time.Duration, err error) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, fmt.Errorf("getrusage: %w", err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum, nil
}

// quiet waits until the process does nothing: what a start leaves to do must not
// be counted as the drop's.
func quiet(ctx context.Context) error {
	last, err := used()
	for err == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
		var c time.Duration
		if c, err = used(); c-last < time.Millisecond {
			return err
		}
		last = c
	}
	return err
}

// resident is a process's resident memory in bytes.
type resident struct {
	private int64 // anonymous: nobody else has it, and it cannot be dropped
	shared  int64 // pages of files: the page cache's, whoever maps them
}

// memory reads the kernel's sums over all mappings. Private_Clean is not used: a
// page of a file that one process maps counts there.
func memory() (m resident, err error) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return m, err
	}
	kb := make(map[string]int64)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "kB" {
			if kb[f[0]], err = strconv.ParseInt(f[1], 10, 64); err != nil {
				return m, fmt.Errorf("smaps_rollup: %q: %w", line, err)
			}
		}
	}
	m.private = kb["Anonymous:"] << 10
	m.shared = kb["Rss:"]<<10 - m.private
	return m, nil
}
