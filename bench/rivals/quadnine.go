package rivals

import "github.com/quadnine/quadnine/bench/proc"

// quadnine runs as a sidecar would: keyed breaker, degrading with a response
// cache for the queries' path, and telemetry are on, the counters scraped or not.
var quadnine = Rival{Name: "quadnine", Note: "keyed breaker, degrade and telemetry on", start: func(at Place) (*Running, error) {
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(at.Quadnine, []string{
		"run", "--listen", addrs[0], "--admin", addrs[1],
		"--upstream", "h2c://" + at.Upstream, // forced, as the rivals' upstream protocol is
		"--shards", "1", // one core is measured
		"--admin-pprof", // for the budget; idle while rounds are measured
		"--degrade", QueryPath,
	}, at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0], Admin: addrs[1]}, nil
}}
