package differential

import (
	"testing"
	"time"
)

// TestRejectionsArePaced: a plain SnapshotCache sends a refused resource again
// as soon as it is refused (SotW), or never (delta). quadnine answers at most
// once a second.
func TestRejectionsArePaced(t *testing.T) {
	const watched = 3 * time.Second
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.run(t, []trial{{"one bad table", []step{
				{part: part{routes: all}, requests: []*request{get("/").is("200 b0")}},
				{part: part{table: `virtual_hosts: [{name: v, domains: ["*"]}, {name: w, domains: ["*"]}]`}, fails: routeType, do: func(t *testing.T, s *stand) {
					t.Helper()
					s.cp.await(deadline(t, watched), func() bool { return false })
					s.cp.mu.Lock()
					defer s.cp.mu.Unlock()
					e, o := s.cp.nacks[s.envoy.node], s.cp.nacks[s.ours.node]
					t.Logf("rejections in %v: Envoy %d, quadnine %d", watched, e, o)
					if !self && (o < 1 || o > int(watched/time.Second)+1) {
						t.Errorf("quadnine has refused %d times in %v: want once, and at most once a second", o, watched)
					}
				}, requests: []*request{get("/").is("200 b0")}},
			}}})
		})
	}
}
