package rivals

var (
	envoyRouter = Rival{Name: "Envoy router", Note: "Envoy 1.40 with the router filter only", start: func(at Place) (*Running, error) { return startEnvoy(at, false) }}
	envoyFull   = Rival{
		Name: NameEnvoy, Note: "Envoy 1.40 with the counterparts of what quadnine has on: local rate limit, circuit breakers, outlier detection, router statistics, timeouts, trace context",
		start: func(at Place) (*Running, error) { return startEnvoy(at, true) },
	}
)

// startEnvoy starts Envoy with one worker for the one core. Hot restart would
// need shared memory that two runs on one machine fight over.
func startEnvoy(at Place, full bool) (*Running, error) {
	return at.program("envoy", "envoy.yaml", false, full, func(path string) []string {
		return []string{"-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"}
	})
}
