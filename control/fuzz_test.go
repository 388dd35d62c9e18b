package control

import (
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/policy"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
)

// FuzzReports: whatever sidecars send is refused, or weighed to finite evidence.
func FuzzReports(f *testing.F) {
	version := func(n uint64) *modelv1.Version {
		return &modelv1.Version{Model: "m", Number: n, Root: make([]byte, 32)}
	}
	for _, logs := range []float64{0, 3, -1e9, 1e14} {
		b, err := proto.Marshal(&modelv1.StreamEvidenceRequest{Node: "a", Sequence: 1, Trials: []*modelv1.Trial{{
			Canary: version(2), Active: version(1), Age: durationpb.New(time.Hour), LatencyLimit: durationpb.New(time.Second),
			Bounds:        &modelv1.Bounds{Alpha: .001, Beta: .01, Margin: 10, BaselineErrorPercent: .1, MinRequests: 1, MinFailures: 1, PromoteAfter: durationpb.New(time.Second)},
			CanaryTally:   &modelv1.Tally{Requests: 100, Failures: 3, NotFinite: 1, Timed: 97},
			ActiveTally:   &modelv1.Tally{Requests: 1 << 48, Timed: 1 << 48},
			ErrorsAgainst: []float64{logs, 1, 2, 3, 4, 5}, ErrorsFor: []float64{logs, -1}, LatencyAgainst: make([]float64, 6), LatencyFor: []float64{1, logs},
		}}, Blocked: []*modelv1.Version{version(9)}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m modelv1.StreamEvidenceRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		trials, blocked, err := reported(&m)
		if err != nil {
			return
		}
		p, err := NewPool(policy.DefaultPoolConfig())
		if err != nil {
			t.Fatal(err)
		}
		p.learn(m.GetNode(), blocked)
		for _, node := range []string{m.GetNode(), m.GetNode() + "'"} {
			if n := len(p.report(node, m.GetSequence(), trials)); n != len(trials) {
				t.Fatalf("%d opinions on %d trials", n, len(trials))
			}
		}
		for _, of := range p.pairs {
			e := of.weigh(p.cfg)
			for _, v := range []float64{e.ErrorsAgainst, e.ErrorsFor, e.LatencyAgainst, e.LatencyFor, e.Rate, e.Base, e.Bad} {
				if math.IsNaN(v) || v < 0 {
					t.Fatalf("%v", e)
				}
			}
		}
	})
}
