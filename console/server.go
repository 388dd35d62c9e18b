package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// DefaultAddr is where the console listens unless told otherwise: loopback only,
// for it names tenants and has no authentication.
const DefaultAddr = "127.0.0.1:9901"

// Server is the console listening. Get it from Listen.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     chan struct{} // closed when the accept loop has ended
}

// Listen opens addr, "host:port" or "unix:/path", and serves h on it until Shutdown. Port 0 picks a free port;
// see Addr. An address that is not loopback is served, and warned of in log.
func Listen(ctx context.Context, addr string, h http.Handler, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	network, at := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, at = "unix", path
	}
	l, err := lc.Listen(ctx, network, at)
	if err != nil {
		return nil, fmt.Errorf("console: %w: choose another admin address, or port 0 for any free one", err)
	}
	if !loopback(l.Addr()) {
		log.Warn("the console is reachable from other hosts; it shows tenants' names and rolls versions back for anybody who asks", "addr", l.Addr())
	}
	s := &Server{
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       2 * time.Minute,
			WriteTimeout:      time.Minute, // a dump that nobody reads ends
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		listener: l,
		done:     make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("console stopped", "addr", l.Addr(), "err", err)
		}
	}()
	return s, nil
}

// loopback reports whether a can be reached from this host alone.
func loopback(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// Addr returns the address that was opened, with its port.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Shutdown stops accepting, waits for answers under way until ctx ends, then
// closes every connection.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("console: shut down: %w", err), s.http.Close())
	}
	<-s.done
	return err
}
