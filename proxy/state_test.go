package proxy

import (
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/snapshot"
)

// TestStatesShareWhatStays: a change costs what changed, and a state that requests
// still hold is never written to.
func TestStatesShareWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		table := &snapshot.RouteTable{Name: "r", Hosts: []*snapshot.VirtualHost{{Name: "all", Domains: []string{"*"}, Policies: snapshot.Policies{Model: new(snapshot.ModelRouting)}}}}
		if err := table.Finish(nil); err != nil {
			t.Fatal(err)
		}
		in := listener("in", "sidecar:80", "a")
		in.Inline, in.RouteName = nil, "r"
		with := func(clusters ...*snapshot.Cluster) *state {
			s := snapshotOf([]*snapshot.Listener{in}, clusters...)
			s.Tables = map[string]*snapshot.RouteTable{"r": table}
			r.apply(s)
			return r.server.current.Load()
		}
		a, b, c := cluster("a", "a:80"), cluster("b", "b:80"), cluster("c", "c:80")
		first := with(a, b)

		again := *first.snap
		again.Runtime = new(snapshot.Runtime)
		r.apply(&again)
		if second := r.server.current.Load(); second == first || second.clusters["b"] != first.clusters["b"] {
			t.Error("with the same clusters others run")
		}

		b2 := *b
		b2.Assignment = cluster("b", "b:81").Assignment
		third := with(a, &b2)
		if third.clusters["b"] != first.clusters["b"] {
			t.Error("with other endpoints another cluster runs")
		}
		if got := third.clusters["b"].Endpoints(); len(got) != 1 || got[0].Address != "b:81" {
			t.Errorf("its endpoints are %v", got)
		}

		fourth := with(a, c)
		if fourth.clusters["a"] != first.clusters["a"] || fourth.clusters["c"] == nil || fourth.clusters["b"] != nil || len(fourth.clusters) != 2 {
			t.Errorf("clusters are %v", fourth.clusters)
		}
		if third.clusters["b"] == nil || third.clusters["c"] != nil {
			t.Errorf("the state before has now %v", third.clusters)
		}
		if !third.clusters["b"].Retired() || third.clusters["a"].Retired() {
			t.Error("the cluster that is gone is not retired, or another one is")
		}
		if own, ok := fourth.overrides[table]; !ok || len(own) != 1 || len(fourth.overrides) != 1 {
			t.Errorf("overrides are %v", fourth.overrides)
		}
	})
}
