package loader

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// rootOf returns a version's root, as its drop says.
func (r *rig) rootOf(name string) (root delta.Root) {
	r.t.Helper()
	_, mf, _, err := readManifest(r.candidate(name))
	must(r.t, err)
	return mf.TargetRoot
}

// A blocked version is taken back wherever it is in its life, and stays refused
// after a restart, also where it was never tried.
func TestBlockedVersionIsRefused(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	r.pack("v3", 3, 1, nil)
	for _, n := range []string{"v2", "v3"} {
		b := Block{Model: "score", Number: uint64(n[1] - '0'), Root: r.rootOf(n), Reason: "bad elsewhere"}
		must(t, r.l.Block(t.Context(), b))
		must(t, r.l.Block(t.Context(), b)) // again: nothing
	}
	r.await(EventRolledBack, 1)
	r.serves(1)
	if why := r.l.Refused("score")[2].Reason; why != "bad elsewhere" {
		t.Errorf("refused for %q", why)
	}
	if n := len(r.l.Blocked()); n != 2 {
		t.Errorf("%d blocked, want 2", n)
	}
	r.report("v3")
	if ev := r.await(EventQuarantined, 3); !strings.Contains(ev.Reason, "was blocked (bad elsewhere)") {
		t.Errorf("%+v", ev)
	}
	r.close()
	r.open()
	r.serves(1)
	r.report("v3")
	if ev := r.await(EventQuarantined, 3); !strings.Contains(ev.Reason, "was blocked (bad elsewhere)") {
		t.Errorf("after a restart: %+v", ev)
	}
	r.close()
}

// Numbers are not names: another version with the same number is not meant.
func TestBlockMeansARoot(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 2, Root: delta.Root{1}, Reason: "another one"}))
	must(t, r.l.Block(t.Context(), Block{Model: "unknown", Number: 2, Root: delta.Root{1}, Reason: "no such model"}))
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	r.serves(2)
	r.close()
}

// An active version goes back to its standby; one that answers alone goes on,
// and the standby is not gone back to any more.
func TestBlockOfActiveAndStandby(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 2, Root: r.rootOf("v2"), Reason: "bad"}))
	r.serves(1)
	err := r.l.Block(t.Context(), Block{Model: "score", Number: 1, Root: r.rootOf("v1"), Reason: "bad"})
	if !errors.Is(err, ErrNoStandby) {
		t.Errorf("the only version: %v", err)
	}
	r.serves(1)
	r.drop(3, 1, atOnce)
	r.await(EventActive, 3)
	r.drop(4, 3, atOnce)
	r.await(EventActive, 4)
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 3, Root: r.rootOf("v3"), Reason: "bad"}))
	if err := r.l.Rollback(t.Context(), "score", 4, "by hand"); !errors.Is(err, ErrNoStandby) {
		t.Errorf("back to a blocked version: %v", err)
	}
	r.serves(4)
	r.close()
}

// A standby that is compared in shadow is not compared any more once it is blocked.
func TestBlockOfStandbyInShadow(t *testing.T) {
	studies := make(chan Study, 16)
	r := newRig(t, func(o *Options) {
		o.Comparable = func(any, any) error { return nil }
		o.Changed = func(s Study) { studies <- s }
	})
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	must(t, r.l.Shadow(t.Context(), "score", 1, 100))
	for s := range studies {
		if s.Shadow != nil {
			break
		}
	}
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 1, Root: r.rootOf("v1"), Reason: "bad elsewhere"}))
	if _, err := r.l.AcquireShadow("score", 1); !errors.Is(err, ErrNotShadow) {
		t.Errorf("the blocked version's lease: %v", err)
	}
	select {
	case s := <-studies:
		if s.Shadow != nil || slices.Contains(s.Serving, 1) {
			t.Errorf("told after the block: %+v", s)
		}
	default:
		t.Error("nobody was told that the shadow ended")
	}
	r.serves(2)
}

// What is blocked while it is brought in never answers.
func TestBlockWhileItIsBroughtIn(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.pack("v2", 2, 1, atOnce)
	root := r.rootOf("v2")
	held, reached := make(chan struct{}), make(chan struct{})
	r.l.opts.Prepare = func(w View) (any, error) {
		if w.Info().Number == 2 {
			close(reached)
			<-held
		}
		return nil, nil
	}
	r.report("v2")
	<-reached
	must(t, r.l.Block(t.Context(), Block{Model: "score", Number: 2, Root: root, Reason: "bad elsewhere"}))
	close(held)
	r.await(EventQuarantined, 2)
	r.serves(1)
	r.close()
}

// What is remembered is bounded, the oldest goes first.
func TestBlocksAreBounded(t *testing.T) {
	r := newRig(t, nil)
	must(t, r.l.call(t.Context(), func() error {
		for n := range uint64(maxBlocks) {
			r.l.block(Block{Model: "m", Number: n + 1, At: now()})
		}
		return nil
	}))
	must(t, r.l.Block(t.Context(), Block{Model: "m", Number: maxBlocks + 1}))
	b := r.l.Blocked()
	if len(b) != maxBlocks || b[0].Number != 2 || b[len(b)-1].Number != maxBlocks+1 {
		t.Errorf("%d blocks, from %d to %d", len(b), b[0].Number, b[len(b)-1].Number)
	}
	r.close()
}

// A blocked version that answers alone goes on, which is told, at the next start too;
// once another one answers it is not kept to go back to.
func TestBlockedVersionThatAnswersAlone(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	blocked := func() (why string) {
		for _, s := range r.l.Versions("score") {
			if s.State == Active {
				why = s.Blocked
			}
		}
		return why
	}
	if why := blocked(); why != "" {
		t.Errorf("blocked for %q", why)
	}
	if err := r.l.Block(t.Context(), Block{Model: "score", Number: 1, Root: r.rootOf("v1"), Reason: "bad elsewhere"}); !errors.Is(err, ErrNoStandby) {
		t.Errorf("%v, want ErrNoStandby", err)
	}
	for range 2 {
		if ev := r.await(EventBlockedActive, 1); !strings.Contains(ev.Reason, "bad elsewhere: it goes on") {
			t.Errorf("%+v", ev)
		}
		if why := blocked(); why != "bad elsewhere" {
			t.Errorf("blocked for %q", why)
		}
		r.serves(1)
		r.close()
		r.open()
	}
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	r.await(EventUnloadSuccess, 1)
	if err := r.l.Rollback(t.Context(), "score", 2, "by hand"); !errors.Is(err, ErrNoStandby) {
		t.Errorf("%v, want ErrNoStandby: a blocked version is not gone back to", err)
	}
	if why := blocked(); why != "" {
		t.Errorf("v2 is blocked for %q", why)
	}
	r.serves(2)
	r.close()
}
