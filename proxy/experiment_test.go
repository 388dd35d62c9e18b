package proxy

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// halves is an experiment over versions 1 and 2.
func halves(by string) *Experiment {
	return NewExperiment("halves", 42, by, []*Arm{{Version: 1}, {Version: 2, Challenger: true}}, []float64{1, 1})
}

func TestExperimentAssignsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2), canary: weighted(2, 3)}
		e := halves("")
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		of := make(map[string]string) // user → version
		sent := make(map[string]uint64)
		for round := range 3 {
			for i := range 100 {
				user := fmt.Sprint("user-", i)
				got := r.get(score, "X-User-Id", user)
				name := got.Header.Get("X-Quadnine-Model")
				if want := map[string]float64{"score@1": 23, "score@2": 33}[name]; got.computed(t, name) != want {
					t.Fatalf("%s answers %s", name, got.body)
				}
				if round > 0 && of[user] != name {
					t.Fatalf("%s was on %s and is on %s", user, of[user], name)
				}
				of[user] = name
				sent[name]++
			}
		}
		for i, name := range []string{"score@1", "score@2"} {
			tally := e.Arms[i].Tally()
			if tally.Requests != sent[name] || tally.Answers != sent[name] || tally.Failures != 0 || sent[name] < 60 {
				t.Errorf("%s: %+v, %d were sent", name, tally, sent[name])
			}
			if want := []float64{23, 33}[i]; tally.Mean != want || tally.Variance != 0 {
				t.Errorf("%s: mean %v ± %v, want %v", name, tally.Mean, tally.Variance, want)
			}
		}
		r.settled()
		s.balanced(t)
	})
}

func TestExperimentByHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2), standby: weighted(2, 3)}
		e := halves("x-device-id")
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		versions := make(map[string]bool)
		for i := range 40 {
			device := fmt.Sprint("device-", i)
			a := r.get(score, "X-Device-Id", device, "X-User-Id", "one").Header.Get("X-Quadnine-Model")
			b := r.get(score, "X-Device-Id", device, "X-User-Id", "another").Header.Get("X-Quadnine-Model")
			if a != b {
				t.Fatalf("%s is on %s and %s", device, a, b)
			}
			versions[a] = true
		}
		if len(versions) != 2 {
			t.Errorf("40 devices are on %v", versions)
		}
		r.settled()
		s.balanced(t)
	})
}

// Failures of the upstream count for the version that was asked for, while routed.
func TestExperimentCountsFailuresWhileRouted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(1), canary: routedVersion(2)}
		e := halves("")
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		var mu sync.Mutex
		asked := make(map[string]uint64)
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			v := req.Header.Get("X-Model-Version")
			mu.Lock()
			asked[v]++
			n := asked[v]
			mu.Unlock()
			w.Header().Set("X-Model-Version", v)
			if v == "score@2" && n%2 == 0 {
				w.WriteHeader(http.StatusNotFound) // below 500: an answer
			}
		})
		for i := range 60 {
			r.get("/plain", "X-User-Id", fmt.Sprint("user-", i), "X-Tenant-Id", fmt.Sprint("tenant-", i))
		}
		r.settled()
		for i, name := range []string{"score@1", "score@2"} {
			if tally := e.Arms[i].Tally(); tally.Requests != asked[name] || tally.Failures != 0 || tally.Answers != 0 || asked[name] == 0 {
				t.Errorf("%s: %+v, the upstream saw %d", name, tally, asked[name])
			}
		}
		s.balanced(t)
	})
}

func TestExperimentCountsServerErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(1), canary: routedVersion(2)}
		e := halves("")
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		var mu sync.Mutex
		failed := uint64(0)
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			v := req.Header.Get("X-Model-Version")
			w.Header().Set("X-Model-Version", v)
			if v == "score@2" {
				mu.Lock()
				failed++
				mu.Unlock()
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		for i := range 60 {
			r.get("/plain", "X-User-Id", fmt.Sprint("user-", i), "X-Tenant-Id", fmt.Sprint("tenant-", i))
		}
		r.settled()
		bad, good := e.Arms[1].Tally(), e.Arms[0].Tally()
		if bad.Failures != failed || bad.Requests != failed || failed == 0 || good.Failures != 0 || good.Requests+bad.Requests != 60 {
			t.Errorf("good %+v, bad %+v, %d failed", good, bad, failed)
		}
		if len(s.back()) != 0 {
			t.Errorf("taken back: %v: an experiment only counts errors", s.back())
		}
		s.balanced(t)
	})
}

// The first NaN takes a challenger back; its callers go to the active version and
// are counted for no arm.
func TestExperimentVeto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2), canary: weighted(2, math.NaN())}
		e := halves("")
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for i := range 40 {
			if v := r.get(score, "X-User-Id", fmt.Sprint("user-", i)).computed(t, "score@1"); v != 23 {
				t.Fatalf("value %v", v)
			}
		}
		if back := s.back(); !slices.Equal(back, []uint64{2}) || s.evidence.Why != policy.NonFinite {
			t.Fatalf("taken back: %v, %v", back, s.evidence)
		}
		one, two := e.Arms[0].Tally(), e.Arms[1].Tally()
		if two.Requests != 1 || two.NotFinite != 1 || one.Requests == 0 || one.Requests > 30 {
			t.Errorf("arms: %+v and %+v", one, two)
		}
		if n := r.reg.Total(telemetry.ModelTakenBack); n != 1 {
			t.Errorf("%d counted as taken back", n)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestExperimentArmAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2), canary: weighted(2, 3)}
		e := halves("")
		e.Arms[1].SetAway(true)
		s.model.SetExperiment(e)
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for i := range 40 {
			r.get(score, "X-User-Id", fmt.Sprint("user-", i)).computed(t, "score@1")
		}
		if one, two := e.Arms[0].Tally(), e.Arms[1].Tally(); two.Requests != 0 || one.Requests == 0 || one.Requests == 40 {
			t.Errorf("arms: %+v and %+v: who was assigned to an arm that is away is a sample of none", one, two)
		}
		e.Arms[1].SetAway(false)
		versions := make(map[string]bool)
		for i := range 40 {
			versions[r.get(score, "X-User-Id", fmt.Sprint("user-", i)).Header.Get("X-Quadnine-Model")] = true
		}
		if len(versions) != 2 {
			t.Errorf("after it came back: %v", versions)
		}
		r.settled()
		s.balanced(t)
	})
}

// pinning is a constant that gives every version that is asked for.
type pinning struct{ constant }

func (p *pinning) For(quadnine.Key) *Model { return &p.model }

func (p *pinning) Pin(*Model, uint64) (Lease, PinResult) { return p.lease, Pinned }

func TestExperimentAllocatesNothing(t *testing.T) {
	p := &pinning{constant{model: Model{Name: "score"}}}
	p.lease = Lease{Version: routedVersion(2), Hold: &p.constant}
	p.model.SetExperiment(halves(""))
	v, x := versionBench(t, p)
	v.step(x)
	if n := testing.AllocsPerRun(100, func() { v.step(x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkVersionOfExperiment(b *testing.B) { // against BenchmarkVersion/routed
	p := &pinning{constant{model: Model{Name: "score"}}}
	p.lease = Lease{Version: routedVersion(2), Hold: &p.constant}
	p.model.SetExperiment(halves(""))
	v, x := versionBench(b, p)
	b.ReportAllocs()
	for b.Loop() {
		v.step(x)
	}
}

// offered is a Shadow that notes what it is offered.
type offered struct {
	mu  sync.Mutex
	got []string // guarded by mu
}

func (o *offered) Offer(tenant string, by *ModelVersion, rows, answers []float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, fmt.Sprint(tenant, by.Inputs, rows, answers))
}

// shaded is a shelf whose active version has a shadow beside it.
type shaded struct {
	*shelf

	beside *offered
}

func (s shaded) with(o *Options) { o.Models = s }

func (s shaded) Acquire(m *Model, draw uint64) (Lease, bool) {
	l, ok := s.shelf.Acquire(m, draw)
	if ok && !l.Canary {
		l.Shadow = s.beside
	}
	return l, ok
}

func (s shaded) Pin(m *Model, number uint64) (Lease, PinResult) {
	l, result := s.shelf.Pin(m, number)
	l.Shadow = s.beside
	return l, result
}

func TestShadowIsOfferedWhatTheActiveVersionAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shaded{&shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2), standby: weighted(3, 1)}, new(offered)}
		r := newRig(t, snapshot.Source{Trust: []string{"192.0.2.0/24"}}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for range 3 {
			r.get(score).computed(t, "score@1")
		}
		r.get(score, "X-Model-Version", "3").computed(t, "score@3") // whoever chooses a version is no sample
		if want := `t[uv pv] [10 3] [23]`; len(s.beside.got) != 3 || s.beside.got[0] != want {
			t.Errorf("offered %q, want 3 times %q", s.beside.got, want)
		}
		s.set(func() { s.active = weighted(1, math.NaN()) })
		r.get(score).computed(t, "score@3")
		if len(s.beside.got) != 3 {
			t.Errorf("an answer that was not given was offered: %q", s.beside.got)
		}
		r.settled()
		s.balanced(t)
	})
}
