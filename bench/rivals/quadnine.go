package rivals

import (
	"path/filepath"
	"slices"
	"strconv"

	"github.com/quadnine/quadnine/bench/proc"
)

// quadnine runs as a sidecar would: keyed breaker, a model version that
// accompanies every request, telemetry and trace context are on. No rival stores
// replies, so a second entry that also degrades shows what storing costs.
var (
	quadnine = Rival{
		Name: NameQuadnine, Note: "keyed breaker, version stage with an active model version, statistics and trace context on",
		start: func(at Place) (*Running, error) { return at.Quadnine() },
	}
	quadnineDegrades = Rival{
		Name: NameDegrade, Note: "the same, and every reply stored for degrading",
		start: func(at Place) (*Running, error) { return at.Quadnine("--degrade", QueryPath) },
	}
)

// Variant is quadnine with other or more flags, under a name of its own.
func Variant(name, note string, flags ...string) Rival {
	return Rival{Name: name, Note: note, start: func(at Place) (*Running, error) { return at.Quadnine(flags...) }}
}

// Bootstrapped is quadnine with a bootstrap file made by text; its listener must
// be at the address that text is given.
func Bootstrapped(name string, text func(c Config) ([]byte, error)) Rival {
	return Rival{Name: name, start: func(at Place) (*Running, error) { return at.bootstrapped(text) }}
}

// Quadnine starts the sidecar with more flags.
func (at Place) Quadnine(more ...string) (*Running, error) {
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	c := at.config(addrs[0], addrs[1], false)
	scheme := "h2c://" // forced, as the rivals' upstream protocol is
	var tls []string
	switch {
	case c.Secure:
		scheme = "https://"
		tls = []string{"--tls-cert", at.Certs.Cert, "--tls-key", at.Certs.Key, "--upstream-tls-ca", at.Certs.Cert}
	case c.OverHTTP1:
		scheme = "h1://"
	}
	args := append([]string{
		"run", "--listen", addrs[0], "--admin", addrs[1], "--upstream", scheme + c.Backend,
		"--max-connections", strconv.Itoa(at.Connections), // as the rivals are told
		"--admin-pprof", // for the profiles; idle while rounds are measured
	}, tls...)
	if !slices.Contains(more, "--shards") {
		args = append(args, "--shards", "1") // one core is measured
	}
	if at.Programs.Drops != "" {
		args = append(args, "--models", at.Programs.Drops, "--model-ingest", "inplace", "--model-store", filepath.Join(at.Dir, "store"))
	}
	p, err := proc.Start(at.Programs.Quadnine, append(args, more...), at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0], Admin: addrs[1], model: at.Programs.Drops != ""}, nil
}
