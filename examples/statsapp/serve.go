package statsapp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Protocol is which protocols a port speaks.
type Protocol string

// The protocols. H2C is HTTP/2 with prior knowledge (RFC 9113 section 3.3).
const (
	Both  Protocol = "both"
	HTTP1 Protocol = "h1"
	H2C   Protocol = "h2c"
)

func (p Protocol) protocols() (*http.Protocols, error) {
	set := new(http.Protocols)
	switch p {
	case Both, "":
		set.SetHTTP1(true)
		set.SetUnencryptedHTTP2(true)
	case HTTP1:
		set.SetHTTP1(true)
	case H2C:
		set.SetUnencryptedHTTP2(true)
	default:
		return nil, fmt.Errorf("statsapp: protocol %q is unknown; use %s, %s or %s", string(p), Both, HTTP1, H2C)
	}
	return set, nil
}

func newServer(h http.Handler, protocols *http.Protocols) *http.Server {
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		// A benchmark's client opens more streams than net/http's default of 250.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1024},
	}
}

// Serve answers on ln until Close or Shutdown, then returns nil; any other end
// is an error. It takes over ln, and may be called for several listeners.
func (a *App) Serve(ln net.Listener) error {
	if err := a.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("statsapp: serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Close closes every listener and connection at once, as the kernel does for a
// killed process: no GOAWAY, no last chunk. Data is kept, but the App cannot
// Serve again.
func (a *App) Close() error {
	err := a.server.Close()
	a.grpc.Stop()
	return err
}

// Shutdown closes the listeners, tells HTTP/2 clients to leave (GOAWAY) and
// returns once requests in flight are answered, or with ctx's error. Requests
// that hang by a fault hold it up: call Close after it fails.
func (a *App) Shutdown(ctx context.Context) error {
	return a.server.Shutdown(ctx)
}
