package ship

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/loader/delta"
)

// Each version is the one before but for its last tensor, and a commit makes a
// whole drop.
func TestDropsAreDeltasOfTheFirst(t *testing.T) {
	dir := t.TempDir()
	if err := pack(t.Context(), filepath.Join(dir, "packed"), 2); err != nil {
		t.Fatal(err)
	}
	drops := filepath.Join(dir, "drops")
	if err := os.Mkdir(drops, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := commit(filepath.Join(dir, "packed"), drops, 2); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(drops, "2", delta.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	mf, err := delta.ParseManifest(delta.ManifestName, text)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := mf.File(delta.RoleDelta)
	if !ok || f.Size < changes || f.Size > changes+1<<16 || mf.Canary == nil || mf.Canary.Weight != 0 {
		t.Errorf("%+v, want a delta of about %d bytes, active at once", mf, changes)
	}
}

func TestDummyTakesItsTime(t *testing.T) {
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, done := used(), make(chan error, 1)
	go func() { done <- Child(t.Context(), `{"Times": 3, "Pace": 1000000, "Each": 20000000}`) }() // its thread ends with it
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if d := used() - before; d < 50*time.Millisecond { // of its own clock; the kernel counts a little otherwise
		t.Errorf("it used %v of CPU, want 60 ms", d)
	}
}

// The goal is about pairs: what slows a whole round down says nothing.
func TestShift(t *testing.T) {
	p99 := func(d time.Duration) Run { return Run{Latency: driver.Latency{P99: d}} }
	round := func(ofShips, ofDummy time.Duration) (r [ways]Run) {
		r[ships], r[dummy], r[gentle] = p99(ofShips), p99(ofDummy), p99(ofDummy)
		return r
	}
	same := Report{Rounds: [][ways]Run{round(100, 101), round(900, 890), round(50, 51)}}
	worse := Report{Rounds: [][ways]Run{round(120, 100), round(1100, 900), round(60, 50)}}
	if !same.Met() || worse.Met() || new(Report).Met() {
		t.Errorf("met %v, %v, %v; want only the first", same.Met(), worse.Met(), new(Report).Met())
	}
	if rows := same.Tables()[0].Rows; len(rows) != int(ways) || !slices.Contains(rows[1], wayNames[1]) {
		t.Errorf("%q", rows)
	}
}
