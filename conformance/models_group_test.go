package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// forestJSON makes a version of testdata/forest_wide.py answer the metric score.
const forestJSON = `{"kind": "trees", "metric": "score", "input": {"uv": {"metric": "uv"}},
  "weights": {"header": "trees.header", "nodes": "trees.nodes", "roots": "trees.roots", "categories": "trees.categories"}}`

const (
	forestMiB = 256
	groupMiB  = 96
)

// TestModelLargerThanItsControlGroup runs the sidecar in a control group that has
// less memory than a version, let alone base and delta. That is told with the
// figures; pages are dropped and read again while requests flow, every answer is
// right, and the kernel kills nobody. A version whose copies do not fit is refused
// with the figures, and taken once the group is made larger.
func TestModelLargerThanItsControlGroup(t *testing.T) {
	const scattered = 3
	m := withScript(t, "forest_wide.py", forestJSON, scattered, forestMiB, scattered)
	m.Stop()
	g := newMemoryGroup(t, groupMiB<<20)
	m.inGroup(t, g)
	ctx := deadline(t, 4*within)
	says := func(parts ...string) {
		t.Helper()
		if !until(ctx, func() bool { return hasLine(m.Output(), parts...) }) {
			t.Fatalf("no line of the log has all of %q:\n%s", parts, m.Output())
		}
	}
	allows := fmt.Sprintf("of the %.1f MB that the control group allows", float64(groupMiB<<20)/1e6)

	m.first(t)
	says("model.memory.short", "version=1", allows, "raise the group's limit")
	w := askScores(t, m.sidecar, m.want)
	w.await(t, m.sidecar, "answers by version 1", func() bool { return w.count(1) > 20 })
	m.pack(t, 2, "--canary-weight", "0")
	m.drop(t, 2)
	w.await(t, m.sidecar, "activation of version 2", func() bool { return m.models(w.ctx).state(2) == "active" })
	says("model.memory.short", "version=2", allows)
	_, before := g.kills(t)
	w.await(t, m.sidecar, "answers by version 2, of pages that were read again", func() bool {
		_, again := g.kills(t)
		return w.count(2) > 20 && again > before+1000
	})
	if kb := m.mapped(t, "Rss"); kb > groupMiB<<10 {
		t.Errorf("%d kB of the versions are in memory, the group has %d", kb, groupMiB<<10)
	}

	m.pack(t, scattered, "--canary-weight", "0")
	m.drop(t, scattered)
	why := ""
	w.await(t, m.sidecar, "refusal of version 3", func() bool { why = m.models(w.ctx).quarantined(scattered); return why != "" })
	for _, want := range []string{"score@3 takes", "MB of private memory", allows, fmt.Sprintf("at most %.1f MB may be", float64(groupMiB<<20)*0.9/1e6), "raise its limit", "not enough memory in the control group"} {
		if !strings.Contains(why, want) {
			t.Errorf("version 3 is quarantined for %q, want %q", why, want)
		}
	}
	good := w.count(2)
	w.await(t, m.sidecar, "answers by version 2 meanwhile", func() bool { return w.count(2) > good+20 })
	g.set(t, 4*groupMiB<<20)
	w.await(t, m.sidecar, "activation of version 3, tried again by itself", func() bool { return m.models(w.ctx).state(scattered) == "active" })
	w.await(t, m.sidecar, "answers by version 3", func() bool { return w.count(scattered) > 20 })
	w.end(t)
	m.Stop()

	m.inGroup(t, g) // a restart says at start what it takes
	says("model.memory", "the versions of the last run take", fmt.Sprintf("of the %.1f MB that the control group allows", 4*float64(groupMiB<<20)/1e6))
	if r, err := askScore(ctx, client(t, true), m.url(score), "after"); err != nil || r.model != modelName(scattered) || r.value != m.want[r.model] {
		t.Errorf("after the restart: %+v, %v", r, err)
	}
	kills, again := g.kills(t)
	if kills != 0 {
		t.Errorf("the kernel killed %d processes for want of memory", kills)
	}
	t.Logf("%d pages were read again, %d processes killed", again, kills)
}

// hasLine reports whether a line of text has all parts.
func hasLine(text string, parts ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}
