package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// By hand the refusal is on disk before anybody is switched, and a process that
// ends in between comes up with the version taken back.
func TestRefusalIsStoredBeforeTheSwitch(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	r.quiesce()
	copied := filepath.Join(t.TempDir(), "store")
	var answers []uint64 // when a state.json was begun; of the loader's goroutine
	must(t, r.l.call(t.Context(), func() error {
		r.l.store.create = func(name string) (file, error) {
			if strings.HasPrefix(filepath.Base(name), stateFile) {
				info, _ := r.l.Current("score")
				answers = append(answers, info.Number)
			}
			return os.Create(name)
		}
		return nil
	}))
	must(t, r.l.call(t.Context(), func() error {
		m, err := r.l.find("score")
		if err != nil {
			return err
		}
		if err := r.l.storeRefusal(m, 2, "by hand"); err != nil {
			return err
		}
		return os.CopyFS(copied, os.DirFS(r.opts.Store)) // as a kill would leave it
	}))
	if err := r.l.Rollback(t.Context(), "score", 2, "by hand"); err != nil {
		t.Fatal(err)
	}
	r.serves(1)
	r.close()
	if len(answers) < 3 || !slices.Equal(answers[:3], []uint64{2, 2, 1}) { // storeRefusal; Rollback, before and after
		t.Errorf("while state.json was written, %v answered: want 2 until the refusal is stored", answers)
	}
	r.opts.Store = copied
	r.open()
	r.serves(1)
	if why := r.l.Refused("score")[2].Reason; why != "by hand" {
		t.Errorf("refused for %q", why)
	}
	r.close()
}

// Each rollback marks what was prepared, before the switch; the ones that the
// judge and people ask for are told once, and none that came to nothing.
func TestRollbacksAreTold(t *testing.T) {
	var mu sync.Mutex
	var told, marked []string
	r := newRig(t, func(o *Options) {
		o.Prepare = func(w View) (any, error) { return w.Info().String(), nil }
		o.Refuse = func(prepared any) {
			mu.Lock()
			defer mu.Unlock()
			marked = append(marked, prepared.(string))
		}
		o.TakenBack = func(bad, to *Info, reason string, judged bool) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%v %v %s %v", bad, to, reason, judged))
		}
	})
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.judge.say(2, Rollback)
	r.drop(2, 1, nil)
	r.await(EventRolledBack, 1)
	r.drop(3, 1, nil)
	r.await(EventCanary, 3)
	must(t, r.l.Rollback(t.Context(), "score", 3, "by hand"))
	for n, want := range map[uint64]error{3: ErrNotServing, 1: ErrNoStandby, 7: ErrNotServing} {
		if err := r.l.Rollback(t.Context(), "score", n, "again"); !errors.Is(err, want) {
			t.Errorf("v%d: %v, want %v", n, err, want)
		}
	}
	r.drop(4, 1, nil)
	r.await(EventCanary, 4)
	if to, err := r.l.TakeBack("score", 4, "a request"); to != 1 || err != nil {
		t.Errorf("TakeBack: %d, %v", to, err)
	}
	r.close()
	if got, want := strings.Join(marked, " "), "score@2 score@3 score@4"; got != want {
		t.Errorf("marked %s, want %s", got, want)
	}
	if got, want := strings.Join(told, "; "), "score@2 score@1 error rate true; score@3 score@1 by hand false"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	r.open()
	if n := len(r.l.Refused("score")); n != 3 {
		t.Errorf("%d refused after a restart, want 3", n)
	}
	r.close()
}

// Who gives up waiting for a rollback has not stopped it.
func TestRollbackOutlivesItsCaller(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.l.Rollback(impatient, "score", 2, "errors"); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := r.l.AcquireVersion("score", 2); !errors.Is(err, ErrNotServing) {
		t.Errorf("the rollback did not take effect: %v", err)
	}
	r.drop(3, 1, nil) // and does not keep others waiting
	r.await(EventCanary, 3)
	r.close()
	r.open()
	if _, ok := r.l.Refused("score")[2]; !ok {
		t.Error("the refusal was not stored")
	}
	r.close()
}

// Refusals are bounded: the oldest leave the list, and their versions stay out
// all the same, also after a restart.
func TestRefusalsAreBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.prompt = true })
	defer func() { r.close() }()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	for n := uint64(2); n < maxRefused+6; n++ {
		r.drop(n, 1, nil)
		r.await2(EventCanary, n)
		must(t, r.l.Rollback(t.Context(), "score", n, "wrong"))
	}
	check := func() {
		t.Helper()
		list := r.l.Refused("score")
		if _, ok := list[maxRefused+5]; len(list) != maxRefused || !ok {
			t.Errorf("%d refusals are kept, want %d", len(list), maxRefused)
		}
		for n, want := range map[uint64]error{2: ErrOlder, 5: ErrOlder, 6: ErrRefused, maxRefused + 5: ErrRefused} {
			r.report(fmt.Sprintf("v%d", n))
			r.await2(EventQuarantined, n)
			if q := quarantineOf(r.l, fmt.Sprintf("v%d", n)); q == nil || !errors.Is(q.Reason, want) {
				t.Errorf("v%d: %+v, want %v", n, q, want)
			}
		}
	}
	check()
	r.close()
	r.open()
	r.serves(1)
	check()
}
