package load

import (
	"context"
	"fmt"
	"strconv"

	"github.com/quadnine/quadnine/bench/proc"
)

// Run describes one run of h2load.
type Run struct {
	Addr     string   // host:port of the proxy
	Paths    []string // asked for in turn; "/" when empty
	Requests int      // in all
	Clients  int      // connections
	Streams  int      // open at once on each connection
	HTTP1    bool     // HTTP/1.1 instead of HTTP/2 with prior knowledge
	TLS      bool     // HTTP/2 over TLS; certificates are not checked
	CPU      int      // the CPU h2load is bound to; -1: none

	// WindowBits makes the client's windows 2^WindowBits-1 bytes, for a stream
	// and for a connection; 0 leaves h2load's 1 GiB.
	WindowBits int
}

// Do runs h2load to its end. It is an error when one request got another
// answer than a 2xx.
func (r Run) Do(ctx context.Context) (Result, error) {
	p, err := r.Start()
	if err != nil {
		return Result{}, err
	}
	defer p.Stop()
	return r.Finish(ctx, p)
}

// Start starts h2load without waiting for it.
func (r Run) Start() (*proc.Proc, error) {
	bin, err := proc.Find("h2load")
	if err != nil {
		return nil, err
	}
	args := []string{"-n", strconv.Itoa(r.Requests), "-c", strconv.Itoa(r.Clients), "-m", strconv.Itoa(r.Streams)}
	if r.HTTP1 {
		args = append(args, "--h1")
	}
	if r.WindowBits > 0 {
		w := strconv.Itoa(r.WindowBits)
		args = append(args, "-w", w, "-W", w)
	}
	scheme := "http://"
	if r.TLS {
		scheme = "https://"
	}
	if len(r.Paths) == 0 {
		args = append(args, scheme+r.Addr+"/")
	}
	for _, p := range r.Paths {
		args = append(args, scheme+r.Addr+p)
	}
	var opts []proc.Option
	if r.CPU >= 0 {
		opts = append(opts, proc.Pin(r.CPU))
	}
	return proc.Start(bin, args, opts...)
}

// Finish waits for an h2load that Start started and reads its report.
func (r Run) Finish(ctx context.Context, p *proc.Proc) (Result, error) {
	if err := p.Wait(ctx); err != nil {
		return Result{}, fmt.Errorf("load: h2load against %s: %w\n%s", r.Addr, err, p.Output())
	}
	res, err := Parse(p.Output())
	if err != nil {
		return Result{}, fmt.Errorf("load: h2load against %s: %w\n%s", r.Addr, err, p.Output())
	}
	if res.OK != r.Requests || res.Succeeded != r.Requests {
		return res, fmt.Errorf("load: h2load against %s: %d of %d requests got a 2xx answer\n%s", r.Addr, res.OK, r.Requests, p.Output())
	}
	return res, nil
}
