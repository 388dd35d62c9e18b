package rivals

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/load/echo"
	"github.com/quadnine/quadnine/bench/proc"
)

// QueryPath is the path that the backend answers with its body, StreamPath the
// one that long streams have, StatsPath the one that the servers answer.
const (
	QueryPath  = "/api/v2/metrics/query"
	StreamPath = "/grpc/bench.Echo/Stream"
	StatsPath  = "/stats"
)

// Backend is the service that every rival forwards to. For HTTP/2 it is
// load/echo, because it needs a tenth of what nghttpd does and so leaves the CPU
// that they share to the client; over TLS nghttpd; for HTTP/1.1 nginx.
type Backend struct {
	H2, H1     string // addresses, plain
	TLS2, TLS1 string // over TLS; empty unless the mode is TLS
	Body       []byte // what all of them answer

	procs []*proc.Proc
}

// Body returns the JSON of n bytes that a backend answers, at least 60.
func Body(n int) []byte {
	const head, point, tail = `{"metric":"pv","points":[`, `[1790000000,42],`, `[0,0]],"ok":`
	var b bytes.Buffer
	b.WriteString(head)
	for b.Len()+len(point)+len(tail)+2 <= n {
		b.WriteString(point)
	}
	b.WriteString(tail)
	b.WriteString(strings.Repeat("1", max(n-b.Len()-1, 1)))
	b.WriteByte('}')
	return b.Bytes()
}

// StatsBody is the 1 KB of JSON that the servers answer.
func StatsBody() []byte { return Body(1024) }

// StartBackend starts a backend that answers with body, at.CPU and at.Dir being
// its own, and waits until all of it accepts connections.
func StartBackend(ctx context.Context, at Place, body []byte) (*Backend, error) {
	addrs, err := proc.Addrs(4)
	if err != nil {
		return nil, err
	}
	b := &Backend{H2: addrs[0], H1: addrs[1], TLS2: addrs[2], TLS1: addrs[3], Body: body}
	if err := b.start(ctx, at); err != nil {
		b.Stop()
		return nil, fmt.Errorf("rivals: start the backend: %w", err)
	}
	return b, nil
}

// start starts the servers that the mode needs.
func (b *Backend) start(ctx context.Context, at Place) error {
	root := filepath.Join(at.Dir, "htdocs")
	file := filepath.Join(root, filepath.FromSlash(QueryPath))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Body, 0o644); err != nil {
		return err
	}
	h2, err := proc.Start(at.Programs.Self, []string{echo.ChildArg, b.H2, file}, at.options(proc.Env("GOGC=400", "GOMAXPROCS=1"))...)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, h2)
	if err := h2.AwaitTCP(ctx, b.H2); err != nil {
		return err
	}
	data := map[string]any{"Dir": at.Dir, "H1": b.H1, "TLS1": b.TLS1, "Certs": at.Certs, "Inline": "", "Root": root, "File": QueryPath}
	if len(b.Body) < 4096 {
		data["Inline"] = string(b.Body) // from the configuration: no file to open
	}
	h1, err := startNginx(at, data)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, h1)
	if err := h1.AwaitTCP(ctx, b.H1); err != nil || at.Mode != TLS {
		return err
	}
	bin, err := proc.Find("nghttpd")
	if err != nil {
		return err
	}
	// 1024 streams: at nghttpd's default of 100 some rivals would open more
	// connections to it than others. One thread: it shares its CPU with the client.
	args := []string{"-a", "127.0.0.1", "-n", "1", "-m", "1024", "-d", root, strconv.Itoa(port(b.TLS2)), at.Certs.Key, at.Certs.Cert}
	secure, err := proc.Start(bin, args, at.options()...)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, secure)
	return secure.AwaitTCP(ctx, b.TLS2)
}

// CPU is what the servers have used.
func (b *Backend) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, p := range b.procs {
		used, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// Stop ends the servers.
func (b *Backend) Stop() {
	for _, p := range b.procs {
		p.Stop()
	}
}
