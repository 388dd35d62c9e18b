package rivals

import "github.com/quadnine/quadnine/bench/proc"

var nginx = Rival{Name: "nginx", Note: "HTTP/1.1 upstream: it cannot speak HTTP/2 to one", start: func(at Place) (*Running, error) {
	addrs, err := proc.Addrs(1)
	if err != nil {
		return nil, err
	}
	p, err := startNginx(at, "nginx.conf", map[string]string{"Dir": at.Dir, "Listen": addrs[0], "Upstream": at.HTTP1})
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0]}, nil
}}

// startNginx starts nginx with the named configuration.
func startNginx(at Place, config string, data map[string]string) (*proc.Proc, error) {
	bin, err := proc.Find("nginx")
	if err != nil {
		return nil, err
	}
	path, err := render(at.Dir, config, data)
	if err != nil {
		return nil, err
	}
	return proc.Start(bin, []string{"-e", "stderr", "-p", at.Dir, "-c", path}, at.options()...)
}
