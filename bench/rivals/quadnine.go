package rivals

import "github.com/quadnine/quadnine/bench/proc"

// quadnine runs as a sidecar would: keyed breaker, degrading with a response
// cache for the queries' path, and telemetry are on. No rival stores replies, so
// a second entry without --degrade does what they do and shows what storing costs.
var (
	quadnine = Rival{
		Name: "quadnine", Note: "keyed breaker, telemetry, and every reply stored for degrading (--degrade)",
		start: func(at Place) (*Running, error) { return startQuadnine(at, "--degrade", QueryPath) },
	}
	quadnineStoresNothing = Rival{
		Name: "quadnine without --degrade", Note: "keyed breaker and telemetry; nothing is stored, as in the rivals",
		start: func(at Place) (*Running, error) { return startQuadnine(at) },
	}
)

// startQuadnine starts the sidecar with more flags.
func startQuadnine(at Place, more ...string) (*Running, error) {
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	args := []string{
		"run", "--listen", addrs[0], "--admin", addrs[1],
		"--upstream", "h2c://" + at.Upstream, // forced, as the rivals' upstream protocol is
		"--shards", "1", // one core is measured
		"--admin-pprof", // for the budget; idle while rounds are measured
	}
	p, err := proc.Start(at.Quadnine, append(args, more...), at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0], Admin: addrs[1]}, nil
}
