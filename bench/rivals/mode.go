package rivals

// Mode is what a proxy speaks to its two sides.
type Mode string

// The modes. Downstream it is HTTP/2 always.
const (
	Plain Mode = "plain" // HTTP/2 with prior knowledge on both sides; HTTP/1.1 upstream where a rival knows no other
	TLS   Mode = "tls"   // the same, over TLS on both sides, the backend's certificate checked
	HTTP1 Mode = "http1" // HTTP/1.1 upstream, plain
)

// Config is what the rivals' templates are filled with.
type Config struct {
	Place

	Listen, Admin            string // host:port
	ListenPort, AdminPort    int
	Backend                  string // host:port, by mode and by what the rival speaks
	BackendPort              int
	Secure, OverHTTP1, Extra bool // TLS; HTTP/1.1 upstream; the fuller of a rival's two configurations
}

// config fills a Config in. h1 says that the rival speaks only HTTP/1.1 upstream.
func (at Place) config(listen, admin string, h1 bool) Config {
	c := Config{Place: at, Listen: listen, Admin: admin, ListenPort: port(listen), AdminPort: port(admin), Secure: at.Mode == TLS, OverHTTP1: h1 || at.Mode == HTTP1}
	switch {
	case c.Secure && c.OverHTTP1:
		c.Backend = at.To.TLS1
	case c.Secure:
		c.Backend = at.To.TLS2
	case c.OverHTTP1:
		c.Backend = at.To.H1
	default:
		c.Backend = at.To.H2
	}
	c.BackendPort = port(c.Backend)
	return c
}
