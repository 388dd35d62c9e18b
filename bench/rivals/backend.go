package rivals

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quadnine/quadnine/bench/proc"
)

// QueryPath is the path that the backend answers with Body.
const QueryPath = "/api/v2/metrics/query"

// Backend is the service that every rival forwards to: nghttpd for HTTP/2,
// because it answers a batch of requests in one write (nginx writes each reply
// alone, which makes the floor of a proxied request ten times as dear and hides
// what a proxy adds), and nginx for HTTP/1.1, which nghttpd does not speak.
type Backend struct {
	H2, H1 string // the addresses

	procs []*proc.Proc
}

// StartBackend starts the backend, bound to cpu unless that is -1, with dir as
// its scratch folder.
func StartBackend(ctx context.Context, dir string, cpu int) (*Backend, error) {
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	b := &Backend{H2: addrs[0], H1: addrs[1]}
	if err := b.start(ctx, Place{Dir: dir, CPU: cpu}); err != nil {
		b.Stop()
		return nil, fmt.Errorf("rivals: start the backend: %w", err)
	}
	return b, nil
}

// start starts both servers and waits until they accept connections.
func (b *Backend) start(ctx context.Context, at Place) error {
	root := filepath.Join(at.Dir, "htdocs")
	file := filepath.Join(root, filepath.FromSlash(QueryPath))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(Body), 0o644); err != nil {
		return err
	}
	bin, err := proc.Find("nghttpd")
	if err != nil {
		return err
	}
	// 1024 streams: at nghttpd's default of 100 some rivals would open more
	// connections to it than others. One thread: it shares its CPU with the client.
	args := []string{"--no-tls", "-a", "127.0.0.1", "-n", "1", "-m", "1024", "-d", root, strconv.Itoa(proc.Port(b.H2))}
	h2, err := proc.Start(bin, args, at.options()...)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, h2)
	h1, err := startNginx(at, "nginx-backend.conf", map[string]string{"Dir": at.Dir, "Listen": b.H1, "Body": Body})
	if err != nil {
		return err
	}
	b.procs = append(b.procs, h1)
	if err := h2.AwaitTCP(ctx, b.H2); err != nil {
		return err
	}
	return h1.AwaitTCP(ctx, b.H1)
}

// Stop ends both servers.
func (b *Backend) Stop() {
	for _, p := range b.procs {
		p.Stop()
	}
}
