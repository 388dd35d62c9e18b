package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// memoryGroup is a control group of the tests' own, below the one that they run
// in, with a limit on memory.
type memoryGroup struct {
	dir string
	v2  bool
}

// newMemoryGroup makes one. Where the kernel gives us none, the test fails.
func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	g, err := memoryGroupBelow()
	if err != nil {
		t.Fatalf("no control group with a memory limit of our own (that takes root, and a cgroup file system that can be written): %v", err)
	}
	t.Cleanup(func() {
		// A process that ended may be in its group for a moment.
		if !until(deadline(t, within), func() bool { err = os.Remove(g.dir); return err == nil }) {
			t.Error(err)
		}
	})
	g.set(t, limit)
	if !g.v2 {
		g.write(t, "memory.swappiness", "0")
	} else if _, err := os.Stat(filepath.Join(g.dir, "memory.swap.max")); err == nil {
		g.write(t, "memory.swap.max", "0")
	}
	return g
}

// memoryGroupBelow makes a group below the nearest of our own and those above it
// that gives its children memory limits.
func memoryGroupBelow() (*memoryGroup, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	why := errors.New("no memory controller in /proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		g := memoryGroup{v2: part[0] == "0"}
		if !g.v2 && part[1] != "memory" {
			continue
		}
		mount, err := mountOf(g.v2)
		if err != nil {
			why = err
			continue
		}
		for at := filepath.Clean("/" + part[2]); ; at = filepath.Dir(at) {
			if why = g.below(filepath.Join(mount, at)); why == nil {
				return &g, nil
			}
			if at == "/" {
				break
			}
		}
	}
	return nil, why
}

// mountOf returns where the memory controller of version 1, or version 2, is
// mounted.
func mountOf(v2 bool) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		mount, fs, _ := strings.Cut(lines.Text(), " - ")
		at, kind := strings.Fields(mount), strings.Fields(fs)
		if v2 && kind[0] == "cgroup2" || !v2 && kind[0] == "cgroup" && slices.Contains(strings.Split(kind[len(kind)-1], ","), "memory") {
			return at[4], nil
		}
	}
	return "", fmt.Errorf("no mount of it (version 2: %v) in /proc/self/mountinfo", v2)
}

// below makes the group below parent.
func (g *memoryGroup) below(parent string) (err error) {
	if g.v2 {
		on, err := os.ReadFile(filepath.Join(parent, "cgroup.subtree_control"))
		if err == nil && !slices.Contains(strings.Fields(string(on)), "memory") {
			err = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0) // the root takes it, a group with processes does not
		}
		if err != nil {
			return err
		}
	}
	g.dir, err = os.MkdirTemp(parent, "quadnine-conformance-")
	return err
}

// set makes limit the group's.
func (g *memoryGroup) set(t *testing.T, limit int64) {
	t.Helper()
	g.write(t, map[bool]string{false: "memory.limit_in_bytes", true: "memory.max"}[g.v2], strconv.FormatInt(limit, 10))
}

func (g *memoryGroup) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// count returns the number that stands behind a name in one of the group's files,
// or is all of it when the name is empty.
func (g *memoryGroup) count(t *testing.T, file, name string) int64 {
	t.Helper()
	for line := range strings.Lines(string(read(t, filepath.Join(g.dir, file)))) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == name || len(f) == 1 && name == "" {
			n, err := strconv.ParseInt(f[len(f)-1], 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s of %s", name, file, g.dir)
	return 0
}

// kills returns how often the kernel killed a process of the group for want of
// memory, and how often pages were read again that it had dropped.
func (g *memoryGroup) kills(t *testing.T) (kills, again int64) {
	t.Helper()
	if g.v2 {
		return g.count(t, "memory.events", "oom_kill"), g.count(t, "memory.stat", "workingset_refault_file")
	}
	return g.count(t, "memory.oom_control", "oom_kill"), g.count(t, "memory.stat", "total_workingset_refault_file")
}

// inGroup starts the sidecar in g, on the same watched directory and store.
func (m *modelStand) inGroup(t *testing.T, g *memoryGroup, flags ...string) {
	t.Helper()
	m.inGroupBy(t, g, nil, flags...)
}

// inGroupBy does so through a program that starts it, like setpriv.
func (m *modelStand) inGroupBy(t *testing.T, g *memoryGroup, by []string, flags ...string) {
	t.Helper()
	a := addrs(t, 2)
	args := []string{"-c", `echo $$ > "$1" && shift && exec "$@"`, "sh", filepath.Join(g.dir, "cgroup.procs")}
	args = slices.Concat(args, by, []string{
		bin.quadnine, "run", "--listen", a[0], "--admin", a[1], "--upstream", "http://" + m.upstream, "--models", m.watched, "--model-store", m.store,
	}, flags)
	m.sidecar = &sidecar{Proc: start(t, "/bin/sh", args), addr: a[0], admin: a[1]}
	err := m.Await(deadline(t, within), "enter its control group and answer /ready with 200", func(ctx context.Context) bool {
		status, _, err := get(ctx, http.DefaultClient, "http://"+m.admin+"/ready")
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		t.Fatal(err)
	}
	listening(t, m.Proc, m.addr)
	if procs := strings.Fields(string(read(t, filepath.Join(g.dir, "cgroup.procs")))); !slices.Contains(procs, strconv.Itoa(m.PID())) {
		t.Fatalf("the group holds %v, not the sidecar, %d", procs, m.PID())
	}
}

// mapped adds up what the kernel says of the sidecar's mappings of files in its
// store, in kB, by the field of smaps.
func (m *modelStand) mapped(t *testing.T, field string) (kb int64) {
	t.Helper()
	inside := false
	for line := range strings.Lines(string(read(t, fmt.Sprintf("/proc/%d/smaps", m.PID())))) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") { // from-to perms offset device inode name
			inside = len(f) > 5 && strings.HasPrefix(f[5], m.store)
		} else if inside && f[0] == field+":" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			kb += n
		}
	}
	return kb
}
