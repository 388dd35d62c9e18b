package xds

import (
	"context"
	"fmt"

	"github.com/quadnine/quadnine/bench/load"
)

// rateGoal is the goal of the last route's rate beside the first's.
const rateGoal = 0.9

// rates measures how many requests a second the first and the last route take;
// proxies and routes take turns.
func (s *stand) rates(ctx context.Context) ([]Rate, error) {
	of := make([][2][]float64, len(s.pair))
	for range s.Rounds {
		for i, c := range s.pair {
			for j, path := range []string{firstPath, lastPath} {
				run := load.Run{Addr: c.addr, Paths: []string{path}, Requests: s.Requests, Clients: 4, Streams: 10, CPU: s.RestCPU}
				if c.name == envoy && j == 1 {
					run.Requests = max(s.Requests/10, 1) // a tenth as many: it takes long enough
				}
				res, err := run.Do(ctx)
				if err != nil {
					return nil, err
				}
				of[i][j] = append(of[i][j], res.PerSecond)
			}
		}
	}
	out := make([]Rate, 0, len(s.pair))
	for i, c := range s.pair {
		r := Rate{Name: c.name, First: percentile(of[i][0], 50), Last: percentile(of[i][1], 50), Goal: rateGoal}
		r.Ratio = r.Last / r.First
		fmt.Fprintf(s.log, "%s: first route %.0f/s, last route %.0f/s\n", c.name, r.First, r.Last)
		out = append(out, r)
	}
	return out, nil
}
