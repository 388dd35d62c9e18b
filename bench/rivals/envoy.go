package rivals

import (
	"strconv"

	"github.com/quadnine/quadnine/bench/proc"
)

var envoy = Rival{Name: "Envoy", Note: "router filter only", start: func(at Place) (*Running, error) {
	bin, err := proc.Find("envoy")
	if err != nil {
		return nil, err
	}
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	path, err := render(at.Dir, "envoy.yaml", map[string]int{
		"ListenPort": proc.Port(addrs[0]), "AdminPort": proc.Port(addrs[1]), "UpstreamPort": proc.Port(at.Upstream),
	})
	if err != nil {
		return nil, err
	}
	// One worker for the one core; hot restart would need shared memory that
	// two runs on one machine fight over; base ids likewise.
	p, err := proc.Start(bin, []string{"-c", path, "--concurrency", strconv.Itoa(1), "--disable-hot-restart", "--log-level", "error"}, at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0]}, nil
}}
