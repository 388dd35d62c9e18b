package main

import (
	"log/slog"
	"testing"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/xds/evidence"
)

// A connection that comes or goes while a trial begins finds it: nothing else would
// tell the judge whether there is a pool.
func TestTrialBeginsBetweenConnections(t *testing.T) {
	a := newModels(slog.New(slog.DiscardHandler))
	a.now = func() int64 { return 0 }
	began := make(chan struct{})
	judge, err := policy.NewJudge(policy.DefaultJudgeConfig(), 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &trial{canary: 2, active: 1, judge: judge}
	a.poolConnected(true)
	gone := make(chan struct{})
	a.pool.enter(x, func() {
		if a.pool.mu.TryLock() {
			t.Error("the connection may come or go before the trial is to be found")
			a.pool.mu.Unlock()
		}
		go func() {
			close(began)
			a.poolConnected(false)
			close(gone)
		}()
		<-began
		a.trials.Store(&map[string]*trial{"score": x})
	})
	<-gone
	if p := judge.Pooling(); p != policy.Alone {
		t.Errorf("the judge was told %v of a pool that is gone, want %v", p, policy.Alone)
	}
}

// What a server tells of a version that was blocked before the restart is no news.
func TestBlockToldAgainIsNoNews(t *testing.T) {
	config := standConfig{models: modelsConfig{dir: t.TempDir(), store: t.TempDir(), judge: judgeFlags{server: "http://127.0.0.1:1", node: "a"}}}
	bad := evidence.Verdict{Version: evidence.Version{Model: "score", Number: 2, Root: delta.Root{2}}, Decision: policy.Rollback, Reason: "bad"}
	other := bad
	other.Version.Number = 3
	t.Run("before", func(t *testing.T) {
		s := newStand(t, config)
		if err := s.side.models.loader.Block(t.Context(), loader.Block{Model: "score", Number: 2, Root: delta.Root{2}, Reason: "bad"}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("after", func(t *testing.T) {
		s := newStand(t, config)
		s.side.models.poolDecided(t.Context(), []evidence.Verdict{bad, other})
		if n := sample(t, s.admin("/stats/prometheus"), `quadnine_model_verdicts_total{verdict="block"}`); n != 1 {
			t.Errorf("%v blocks counted, want the new one", n)
		}
	})
}
