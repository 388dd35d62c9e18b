package testkit

import (
	"context"
	"net"
	"net/http"
)

// Protocol is what a test's client or server speaks.
type Protocol string

// The protocols.
const (
	H2 Protocol = "h2c"
	H1 Protocol = "h1"
)

func protocols(ps []Protocol) *http.Protocols {
	out := new(http.Protocols)
	for _, p := range ps {
		out.SetHTTP1(p == H1 || out.HTTP1())
		out.SetUnencryptedHTTP2(p == H2 || out.UnencryptedHTTP2())
	}
	return out
}

// Serve starts Go's own HTTP server with h on address and returns its listener.
// Stop it with Kill.
func Serve(n *Net, address string, h http.Handler, ps ...Protocol) Listener {
	l := n.Listen(address)
	s := &http.Server{Handler: h, Protocols: protocols(ps)}
	go func() { _ = s.Serve(l) }()
	return l
}

// Client returns Go's own HTTP client, which speaks p over n, and what closes
// its connections.
func Client(n *Net, p Protocol) (c *http.Client, closeIdle func()) {
	t := &http.Transport{
		Protocols:          protocols([]Protocol{p}),
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return n.Dial(ctx, address)
		},
	}
	return &http.Client{Transport: t}, t.CloseIdleConnections
}
