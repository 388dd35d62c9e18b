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
)

// ChildArg is the first argument of a process that does one run; the second is
// what to do.
const ChildArg = "loader-run"

// modelName is what the measured model is called.
const modelName = "bench"

// job is one run.
type job struct {
	Kind  string // activate, read, sha256, blake3, blake3-groups or blake3-file
	File  string // what is read or hashed
	Store string // of activate: has version 1 active
	Watch string // the watched folder; it holds the drop
	Drop  string // the drop's folder; its manifest is not in place yet
	Mode  loader.Mode
}

// cost is what one step took.
type cost struct {
	Wall time.Duration `json:"wall_ns"`
	CPU  time.Duration `json:"cpu_ns"`
}

// sample is what a run measured.
type sample struct {
	Steps   map[string]cost
	Private int64 // anonymous memory added, bytes
	Shared  int64 // pages of files added to the process's resident memory, bytes
	Copied  int64 // bytes of the version that are private memory
}

// The steps of an activation.
const (
	stepLoaded = "rename → verified and mapped"
	stepProved = "whole-version proof, file digest, prefault"
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
	l, err := loader.Open(ctx, loader.Options{Store: j.Store, Source: src, Mode: j.Mode})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if i, ok := l.Current(modelName); !ok || i.Number != 1 {
		return s, errors.New("the store did not bring version 1 back")
	}
	runtime.GC()
	debug.FreeOSMemory()
	if err := quiet(ctx); err != nil {
		return s, err
	}
	before, err := memory()
	if err != nil {
		return s, err
	}
	if s.Steps, err = j.commit(ctx, l); err != nil {
		return s, err
	}
	runtime.GC()
	debug.FreeOSMemory() // what stays is counted, not what is garbage
	after, err := memory()
	if err != nil {
		return s, err
	}
	i, ok := l.Current(modelName)
	if !ok || i.Number != 2 {
		return s, errors.New("version 2 is not active")
	}
	s.Private, s.Shared, s.Copied = after.private-before.private, after.shared-before.shared, i.Copied
	return s, nil
}

// commit renames the manifest and returns what the steps until active cost.
func (j job) commit(ctx context.Context, l *loader.Loader) (map[string]cost, error) {
	from, to := filepath.Join(j.Drop, manifestTemp), filepath.Join(j.Drop, delta.ManifestName)
	begin, err := start()
	if err != nil {
		return nil, err
	}
	if err := os.Rename(from, to); err != nil {
		return nil, err
	}
	steps := make(map[string]cost)
	loaded := cost{}
	for {
		var ev loader.Event
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case ev = <-l.Events():
		}
		if ev.Kind == loader.EventQuarantined || ev.Kind == loader.EventStore {
			return nil, fmt.Errorf("%s: %s", ev.Kind, ev.Reason)
		}
		if ev.Version != 2 {
			continue
		}
		c, err := begin.since()
		if err != nil {
			return nil, err
		}
		c.Wall = ev.Time.Sub(begin.at) // the loader's stamp: reading it late costs nothing
		switch ev.Kind {
		case loader.EventLoaded:
			loaded = c
			steps[stepLoaded] = c
		case loader.EventProved:
			steps[stepProved] = cost{Wall: c.Wall - loaded.Wall, CPU: c.CPU - loaded.CPU}
		case loader.EventActive:
			steps[stepActive] = c
			return steps, nil
		}
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

// used is the CPU time of the process, user and system, all threads.
func used() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
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
