package rivals

import (
	"strconv"

	"github.com/quadnine/quadnine/bench/proc"
)

var (
	reverse = Rival{Name: "ReverseProxy", Note: "Go's standard library, httputil.ReverseProxy between http.Server and http.Transport", start: func(at Place) (*Running, error) {
		addrs, err := proc.Addrs(1)
		if err != nil {
			return nil, err
		}
		c := at.config(addrs[0], "", false)
		args := []string{"-listen", addrs[0], "-upstream", "http://" + c.Backend, "-http1=" + strconv.FormatBool(c.OverHTTP1)}
		if c.Secure {
			args = []string{"-listen", addrs[0], "-upstream", "https://" + c.Backend, "-cert", at.Certs.Cert, "-key", at.Certs.Key}
		}
		return startGo(at, at.Programs.Reverse, addrs[0], args)
	}}

	netHTTP  = Rival{Name: "net/http", start: func(at Place) (*Running, error) { return startStats(at, "nethttp") }}
	fastHTTP = Rival{Name: "fasthttp", start: func(at Place) (*Running, error) { return startStats(at, "fasthttp") }}
)

// Servers returns the servers that answer GET /stats by themselves, over
// HTTP/1.1 with StatsBody.
func Servers() []Rival { return []Rival{netHTTP, fastHTTP} }

// startStats starts cmd/stats with one of its servers.
func startStats(at Place, server string) (*Running, error) {
	addrs, err := proc.Addrs(1)
	if err != nil {
		return nil, err
	}
	return startGo(at, at.Programs.Stats, addrs[0], []string{"-listen", addrs[0], "-server", server})
}

func startGo(at Place, bin, addr string, args []string) (*Running, error) {
	p, err := proc.Start(bin, args, at.options()...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addr}, nil
}
