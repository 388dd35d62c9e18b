package rivals

import "github.com/quadnine/quadnine/bench/proc"

var (
	haproxy = Rival{Name: "HAProxy", start: func(at Place) (*Running, error) { return startHAProxy(at, "haproxy.cfg") }}
	tcp     = Rival{Name: "TCP pass-through", Note: "HAProxy in mode tcp: the floor", start: func(at Place) (*Running, error) { return startHAProxy(at, "tcp.cfg") }}
)

// startHAProxy starts HAProxy with one of its two configurations.
func startHAProxy(at Place, config string) (*Running, error) {
	bin, err := proc.Find("haproxy")
	if err != nil {
		return nil, err
	}
	addrs, err := proc.Addrs(1)
	if err != nil {
		return nil, err
	}
	path, err := render(at.Dir, config, map[string]string{"Listen": addrs[0], "Upstream": at.Upstream})
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(bin, []string{"-db", "-f", path}, at.options()...) // -db: stay in the foreground, one process
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0]}, nil
}
