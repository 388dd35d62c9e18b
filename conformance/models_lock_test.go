package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// refusal waits until version n's drop is put aside and checks the reason.
func (m *modelStand) refusal(t *testing.T, n int, want ...string) {
	t.Helper()
	ctx, why := deadline(t, within), ""
	if !until(ctx, func() bool { why = m.models(ctx).quarantined(n); return why != "" }) {
		t.Fatalf("version %d is not refused:\n%s", n, m.Output())
	}
	for _, part := range want {
		if !strings.Contains(why, part) {
			t.Errorf("version %d is quarantined for %q, want %q", n, why, part)
		}
	}
}

// lockedGauge is what the metrics say is locked of version n, in bytes; -1 for
// nothing.
func (m *modelStand) lockedGauge(t *testing.T, n int) int64 {
	t.Helper()
	page := mustGet(t, client(t, false), "http://"+m.admin+"/stats/prometheus")
	found := regexp.MustCompile(`(?m)^quadnine_model_locked_bytes\{model="score",version="` + strconv.Itoa(n) + `"\} (\S+)$`).FindSubmatch(page)
	if found == nil {
		return -1
	}
	bytes, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(bytes)
}

// TestModelLockedIntoMemory runs the sidecar with --model-mlock in a control group.
// A version that it has no room for is refused with the figures, and taken once
// the group is made larger; then the kernel says that its pages are locked, and
// gives none of them back. The next one that does not fit leaves it answering.
func TestModelLockedIntoMemory(t *testing.T) {
	const mib, versions = 128, 3
	m := withScript(t, "forest_wide.py", forestJSON, versions, mib, 0)
	m.Stop()
	g := newMemoryGroup(t, groupMiB<<20)
	m.inGroup(t, g, "--model-mlock")
	m.pack(t, 1)
	m.drop(t, 1)
	m.refusal(t, 1, "score@1 is to be locked into memory", "that takes 134.2 MB more of files", "of the 100.7 MB that the control group allows", "at most 90.6 MB may be", "raise its limit, or run without locking")
	g.set(t, 3*groupMiB<<20)
	ctx := deadline(t, 4*within)
	if !until(ctx, func() bool { return m.models(ctx).state(1) == "active" }) {
		t.Fatalf("version 1 is not tried again:\n%s", m.Output())
	}
	locked := func(n int) {
		t.Helper()
		if kb := m.mapped(t, "Locked"); kb < mib<<10 {
			t.Errorf("with version %d %d kB of the store's files are locked, want %d at least", n, kb, mib<<10)
		}
		if got := m.lockedGauge(t, n); got < mib<<20 {
			t.Errorf("quadnine_model_locked_bytes of version %d is %d", n, got)
		}
	}
	locked(1)
	if !g.v2 { // version 2 would kill the process
		if err := os.WriteFile(filepath.Join(g.dir, "memory.limit_in_bytes"), []byte("67108864"), 0); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("the group can be made smaller than what is locked in it: %v", err)
		}
	}

	w := askScores(t, m.sidecar, m.want)
	m.pack(t, 2, "--canary-weight", "0")
	m.drop(t, 2)
	w.await(t, m.sidecar, "activation of version 2", func() bool { return m.models(w.ctx).state(2) == "active" })
	w.await(t, m.sidecar, "answers by version 2", func() bool { return w.count(2) > 100 })
	locked(2)
	model(t, "pack", m.file(3), "--model", "score", "--version", "3", "--eval", filepath.Join(m.dir, "eval.json"), "--canary-weight", "0", "-o", m.packed(3)) // whole
	m.drop(t, 3)
	m.refusal(t, 3, "score@3 is to be locked into memory", "that takes 134.2 MB more of files", "of the 302.0 MB that the control group allows")
	good := w.count(2)
	w.await(t, m.sidecar, "answers by version 2 meanwhile", func() bool { return w.count(2) > good+100 })
	w.end(t)
	if kills, _ := g.kills(t); kills != 0 {
		t.Errorf("the kernel killed %d processes for want of memory", kills)
	}
}

// TestModelOverTheLockLimit runs the sidecar without the right to lock as much as
// it likes, under a limit that is smaller than a version.
func TestModelOverTheLockLimit(t *testing.T) {
	m := withModels(t, 1, 0)
	m.Stop()
	setpriv, err := proc.Find("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	prlimit, err := proc.Find("prlimit")
	if err != nil {
		t.Fatal(err)
	}
	m.inGroupBy(t, newMemoryGroup(t, 4*groupMiB<<20), []string{setpriv, "--bounding-set", "-ipc_lock", prlimit, "--memlock=1048576:1048576"}, "--model-mlock")
	m.pack(t, 1)
	m.drop(t, 1)
	m.refusal(t, 1, "score@1 is to be locked into memory", ": 0 of the 1048576 that this process may lock are locked", "RLIMIT_MEMLOCK", "raise that limit to three or four times a version's size", "CAP_IPC_LOCK", "run without locking")
	if kb := m.mapped(t, "Locked"); kb != 0 {
		t.Errorf("%d kB are locked", kb)
	}
}
