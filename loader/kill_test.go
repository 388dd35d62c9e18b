package loader

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const childStore, childDrops, childReady = "QUADNINE_KILL_STORE", "QUADNINE_KILL_DROPS", "ready"

// TestMain runs the test binary as the process that is killed when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv(childStore) == "" {
		os.Exit(m.Run())
	}
	if err := child(os.Getenv(childStore), os.Getenv(childDrops)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// child runs a loader on a watched directory until it is killed.
func child(store, drops string) error {
	src, err := Watch(drops, 0)
	if err != nil {
		return err
	}
	l, err := Open(context.Background(), Options{Store: store, Source: src})
	if err != nil {
		return err
	}
	fmt.Println(childReady)
	for ev := range l.Events() {
		fmt.Println(ev.Kind, ev.Version, ev.Reason)
	}
	return nil
}

// kill -9 at random points of ingest and activation: afterwards the old or the
// new version serves, whole, and nothing else lies about. QUADNINE_KILLS sets how
// many points.
func TestKillLeavesOneVersion(t *testing.T) {
	kills := 20
	if s := os.Getenv("QUADNINE_KILLS"); s != "" {
		kills, _ = strconv.Atoi(s)
	}
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.close()
	r.opts.Source = nil
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))

	active, span, seen := uint64(1), 20*time.Millisecond, map[bool]int{}
	for i := range kills {
		next := active + 1
		dir := t.TempDir()
		must(t, packInto(filepath.Join(dir, "packed"), r.shape, next, active, atOnce))
		drops := filepath.Join(dir, "drops")
		must(t, os.Mkdir(drops, 0o755))
		start := time.Now()
		finished := runAndKill(t, r.opts.Store, drops, filepath.Join(dir, "packed"), next, time.Duration(rnd.Int64N(int64(span))))
		if finished { // the point was behind the end: look closer to the beginning
			span = max(time.Since(start)/8, time.Millisecond)
		} else {
			span = span * 5 / 4
		}

		r.open()
		lease, err := r.l.Acquire("score", math.MaxUint64)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		got := lease.Info().Number
		if got != active && got != next {
			t.Fatalf("kill %d: v%d serves, want v%d or v%d", i, got, active, next)
		}
		must(t, lease.With(func(w View) error { return r.shape.check(w, got) }))
		lease.Release()
		seen[got == next]++
		r.noOrphans()
		r.settled()
		if active, _ = r.newest(); active < got {
			t.Fatalf("kill %d: v%d after v%d", i, active, got)
		}
		r.serves(active)
		r.noOrphans()
		r.close()
	}
	t.Logf("the old version served after %d kills, the new one after %d", seen[false], seen[true])
}

// runAndKill starts a loader, drops a version and kills the loader after a delay.
// It reports whether the version was active by then.
func runAndKill(t *testing.T, store, drops, packed string, version uint64, after time.Duration) (finished bool) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childStore+"="+store, childDrops+"="+drops)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != childReady {
		t.Fatalf("the child says %q", lines.Text())
	}
	must(t, os.Rename(packed, filepath.Join(drops, "new")))
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	want := fmt.Sprintf("%s %d", EventActive, version)
	for lines.Scan() {
		finished = finished || len(lines.Text()) >= len(want) && lines.Text()[:len(want)] == want
	}
	_ = cmd.Wait() // killed
	return finished
}

// settled waits until no version is undecided.
func (r *rig) settled() {
	r.t.Helper()
	for done := false; !done; {
		must(r.t, r.l.call(r.t.Context(), func() error {
			done = len(r.l.queue) == 0 && !r.l.running
			for _, m := range *r.l.models.Load() {
				done = done && m.busy == nil
			}
			return nil
		}))
	}
}

func (r *rig) newest() (uint64, bool) {
	i, ok := r.l.Current("score")
	return i.Number, ok
}

// noOrphans checks that the store holds what is in use, and no more.
func (r *rig) noOrphans() {
	r.t.Helper()
	must(r.t, r.l.call(r.t.Context(), func() error {
		m := (*r.l.models.Load())["score"]
		numbers, err := r.l.store.numbers("score")
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if m.images[n] == nil {
				return fmt.Errorf("v%d in the store belongs to nobody", n)
			}
		}
		if len(numbers) != len(m.images) {
			return fmt.Errorf("versions %v in the store, %d in use", numbers, len(m.images))
		}
		return nil
	}))
	r.quiesce()
	if left, err := filepath.Glob(filepath.Join(r.opts.Store, "tmp", "*")); err != nil || len(left) > 0 {
		r.t.Fatalf("left behind: %v, %v", left, err)
	}
}
