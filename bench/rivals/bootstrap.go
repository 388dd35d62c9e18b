package rivals

import (
	"os"
	"path/filepath"

	"github.com/quadnine/quadnine/bench/proc"
)

// bootstrapped starts quadnine with a bootstrap file.
func (at Place) bootstrapped(text func(c Config) ([]byte, error)) (*Running, error) {
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	raw, err := text(at.config(addrs[0], addrs[1], false))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(at.Dir, "bootstrap.yaml")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return nil, err
	}
	args := []string{"-c", path, "--concurrency", "1", "--log-level", "error", "--state-dir", "none", "--admin-pprof"}
	p, err := proc.Start(at.Programs.Quadnine, args, at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0], Admin: addrs[1]}, nil
}
