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
	"strings"
	"testing"
	"time"
)

const (
	childStore, childDrops, childTakes = "QUADNINE_KILL_STORE", "QUADNINE_KILL_DROPS", "QUADNINE_KILL_TAKES"
	childReady, childTookBack          = "ready", "took back"
)

// TestMain runs the test binary as the process that is killed when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == patchChild {
		os.Exit(runPatchChild(os.Args[2]))
	}
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
	l, err := Open(context.Background(), Options{Store: store, Source: src, chains: killChains})
	if err != nil {
		return err
	}
	fmt.Println(childReady)
	take := os.Getenv(childTakes) // the version that is taken back once it is active
	for ev := range l.Events() {
		fmt.Println(ev.Kind, ev.Version, ev.Reason)
		if ev.Kind == EventActive {
			if _, err := l.GC(context.Background(), false); err != nil {
				return err
			}
		}
		if ev.Kind == EventActive && strconv.FormatUint(ev.Version, 10) == take {
			if err := l.Rollback(context.Background(), "score", ev.Version, "wrong"); err == nil {
				fmt.Println(childTookBack)
			}
		}
	}
	return nil
}

// killChains have every second version compacted, by turns to a delta and to a
// full file.
var killChains = chains{share: 0.45, extents: 1 << 20, deltas: 1}

// kill -9 at random points of ingest, activation, rollback, compaction and the
// removal of what nothing needs: afterwards the old or the new version serves,
// whole, a refusal that was acknowledged holds, and nothing else lies about.
// QUADNINE_KILLS sets how many points.
func TestKillLeavesOneVersion(t *testing.T) {
	kills := 20
	if s := os.Getenv("QUADNINE_KILLS"); s != "" {
		kills, _ = strconv.Atoi(s)
	}
	r := newRig(t, func(o *Options) { o.chains = killChains })
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.close()
	r.opts.Source = nil
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))

	active, last, span, seen := uint64(1), uint64(1), 20*time.Millisecond, map[string]int{}
	for i := range kills {
		next := last + 1
		last = next
		takes, from, delay := uint64(0), childReady, time.Duration(rnd.Int64N(int64(span)))
		switch i % 3 {
		case 1:
			takes, from, delay = next, string(EventActive), time.Duration(rnd.Int64N(int64(20*time.Millisecond)))
		case 2: // compaction follows
			from, delay = string(EventDurable), time.Duration(rnd.Int64N(int64(20*time.Millisecond)))
		}
		dir := t.TempDir()
		must(t, packInto(filepath.Join(dir, "packed"), r.shape, next, active, atOnce))
		drops := filepath.Join(dir, "drops")
		must(t, os.Mkdir(drops, 0o755))
		start := time.Now()
		said := runAndKill(t, r.opts.Store, drops, filepath.Join(dir, "packed"), takes, from, delay)
		compacted := said[string(EventCompacted)]
		switch {
		case from != childReady:
		case said[string(EventActive)]: // the point was behind the end: look closer to the beginning
			span = max(time.Since(start)/8, time.Millisecond)
		default:
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
		_, refused := r.l.Refused("score")[next]
		if said[childTookBack] && (!refused || got == next) {
			t.Fatalf("kill %d: v%d was taken back, and v%d serves; refused: %t", i, next, got, refused)
		}
		seen[fmt.Sprintf("new %t, compacted %t, taken back %t", got == next, compacted, refused)]++
		r.noOrphans()
		r.settled()
		if active, _ = r.newest(); active < got || refused && active == next {
			t.Fatalf("kill %d: v%d after v%d", i, active, got)
		}
		r.serves(active)
		r.noOrphans()
		must(t, r.nothingElse())
		r.close()
	}
	t.Logf("%d kills: %v", kills, seen)
}

// runAndKill starts a loader, drops a version, which is taken back once it is
// active if it is the one that takes names, and kills the loader some time after
// it told of from. It returns what the loader told by then.
func runAndKill(t *testing.T, store, drops, packed string, takes uint64, from string, after time.Duration) (said map[string]bool) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childStore+"="+store, childDrops+"="+drops, childTakes+"="+strconv.FormatUint(takes, 10))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != childReady {
		t.Fatalf("the child says %q", lines.Text())
	}
	must(t, os.Rename(packed, filepath.Join(drops, "new")))
	said = make(map[string]bool)
	var timer *time.Timer
	for what := childReady; ; what, _, _ = strings.Cut(lines.Text(), " ") {
		if what == from && timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		said[what] = true
		if !lines.Scan() {
			break
		}
		said[lines.Text()] = true
	}
	_ = cmd.Wait() // killed
	if timer != nil {
		timer.Stop()
	}
	return said
}

// settled waits until no version is undecided.
func (r *rig) settled() {
	r.t.Helper()
	for done := false; !done; {
		r.quiesce()
		must(r.t, r.l.call(r.t.Context(), func() error {
			done = r.l.still()
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
		m := r.l.model("score")
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
