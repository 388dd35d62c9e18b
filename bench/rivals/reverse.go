package rivals

import "github.com/quadnine/quadnine/bench/proc"

var reverse = Rival{Name: "net/http ReverseProxy", Note: "Go's standard library, HTTP/2 on both sides", start: func(at Place) (*Running, error) {
	addrs, err := proc.Addrs(1)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(at.Reverse, []string{"-listen", addrs[0], "-upstream", "http://" + at.Upstream}, at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0]}, nil
}}
