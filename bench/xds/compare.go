package xds

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// Options say what is measured.
type Options struct {
	Samples  int    // changes of each kind for each proxy
	Requests int    // of a run of h2load against one route; 0: no rates
	Rounds   int    // runs of h2load for each route
	Quadnine string // the binary
	ProxyCPU int    // both proxies are bound to it
	RestCPU  int    // everything else is

	// Profile takes a profile of quadnine, whose admin address it is given, while
	// the largest configuration changes; nil: none is taken.
	Profile func(ctx context.Context, admin string) error
}

// Tools returns the programs that Compare needs.
func Tools() []string { return []string{"taskset", "envoy", "nghttpd", "h2load"} }

// sampleWithin bounds the time until a change is seen.
const sampleWithin = 60 * time.Second

// calm is how long the stream has to be silent before the next change: what a
// proxy still does after the first request must not be counted for the next.
const calm = 50 * time.Millisecond

// size is how large a configuration is, besides what changes.
type size struct {
	name             string
	clusters, routes int
	goal             float64 // of quadnine's median beside Envoy's; 0: none
}

// sizes are the configurations of the table.
func sizes() []size {
	return []size{
		{"2 clusters", 2, 2, 1.2},
		{"1,000 clusters", 1000, 2, 0},
		{"1,000 clusters + 10,000 routes", 1000, 10_000, 0.25},
	}
}

// variants are the two ways to speak to a management server, by the bootstrap's
// names.
func variants() [2]string { return [2]string{"GRPC", "DELTA_GRPC"} }

// Compare measures and returns the tables. Files go below dir, progress to log.
// The calling process is bound to RestCPU meanwhile.
func Compare(ctx context.Context, dir string, o Options, log io.Writer) (*Report, error) {
	free, err := bind(o.RestCPU)
	if err != nil {
		return nil, err
	}
	defer free()
	b, err := startBackends(ctx, dir, o.RestCPU)
	if err != nil {
		return nil, err
	}
	defer b.stop()
	rep := &Report{Samples: o.Samples}
	for i, s := range sizes() {
		for j, v := range variants() {
			st := &stand{
				Options: o, size: s, variant: v, backends: b, log: log,
				dir:    filepath.Join(dir, fmt.Sprintf("xds-%d-%s", i, v)),
				random: rand.New(rand.NewPCG(uint64(i), uint64(j))),
			}
			if err := st.measure(ctx, rep); err != nil {
				return nil, fmt.Errorf("xds: %s, %s: %w", s.name, v, err)
			}
		}
	}
	return rep, nil
}

// stand is one pair of proxies before one management server.
type stand struct {
	Options
	size

	variant  string
	backends *backends
	log      io.Writer
	dir      string
	random   *rand.Rand

	server *server
	pair   []*contestant
}

// contestant is one of the two proxies.
type contestant struct {
	*proc.Proc

	name   string // the node's id, too
	addr   string // of its listener
	admin  string
	world  *world // what it has
	client *client
}

// measure starts the pair and measures everything about it.
func (s *stand) measure(ctx context.Context, rep *Report) error {
	if err := s.start(ctx); err != nil {
		s.stop()
		return err
	}
	defer s.stop()
	for _, c := range changes() {
		row, err := s.change(ctx, c)
		if err != nil {
			return err
		}
		rep.Changes = append(rep.Changes, row)
		fmt.Fprintf(s.log, "%s\n", row)
	}
	if s.routes == 2 || s.variant != variants()[1] {
		return nil
	}
	if s.Profile != nil {
		if err := s.profiled(ctx); err != nil {
			return err
		}
	}
	if s.Requests > 0 {
		rates, err := s.rates(ctx)
		if err != nil {
			return err
		}
		rep.Rates = rates
	}
	return nil
}

// start starts the server and both proxies, and waits until both serve.
func (s *stand) start(ctx context.Context) error {
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return err
	}
	addrs, err := proc.Addrs(5)
	if err != nil {
		return err
	}
	if s.server, err = startServer(ctx, addrs[0]); err != nil {
		return err
	}
	for i, name := range []string{envoy, quadnine} {
		c := &contestant{name: name, addr: addrs[1+2*i], admin: addrs[2+2*i]}
		if c.world, err = newWorld(s.size, c.addr, s.backends.addrs); err != nil {
			return err
		}
		if err := s.server.set(ctx, name, c.world.snapshot()); err != nil {
			return err
		}
		if c.Proc, err = s.run(name, addrs[0], c.admin); err != nil {
			return err
		}
		s.pair = append(s.pair, c)
		wait, cancel := context.WithTimeout(ctx, sampleWithin)
		err := c.AwaitTCP(wait, c.addr)
		cancel()
		if err != nil {
			return err
		}
		c.client = &client{addr: c.addr}
		if _, err := c.client.until(ctx, c.world.done); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, c.Output())
		}
	}
	return nil
}

// stop ends the pair and the server.
func (s *stand) stop() {
	for _, c := range s.pair {
		if c.client != nil {
			c.client.close()
		}
		c.Stop()
	}
	if s.server != nil {
		s.server.grpc.Stop()
	}
}

// change measures one kind of change: both take turns.
func (s *stand) change(ctx context.Context, kind change) (Change, error) {
	row := Change{Size: s.name, Variant: s.variant, Change: kind.name, Goal: s.goal}
	of := make([]samples, len(s.pair))
	for range s.Samples {
		for i, c := range s.pair {
			if err := s.server.quiet(ctx, c.name, calm); err != nil {
				return row, fmt.Errorf("%s before %q: %w\n%s", c.name, kind.name, err, c.Output())
			}
			time.Sleep(time.Duration(s.random.IntN(3000)) * time.Microsecond) // no beat between changes and requests
			if err := s.once(ctx, c, kind, &of[i]); err != nil {
				return row, fmt.Errorf("%s, %q: %w\n%s", c.name, kind.name, err, c.Output())
			}
		}
	}
	for i, c := range s.pair {
		row.Proxies = append(row.Proxies, of[i].result(c.name))
	}
	if e := row.Proxies[0].P50; e > 0 {
		row.Ratio = row.Proxies[1].P50 / e
	}
	return row, nil
}

// once makes one change and waits until a request is answered by it.
func (s *stand) once(ctx context.Context, c *contestant, kind change, to *samples) error {
	if err := kind.make(c.world); err != nil {
		return err
	}
	snapshot := c.world.snapshot()
	type end struct {
		seen seen
		err  error
	}
	ends := make(chan end, 1)
	go func() {
		seen, err := c.client.until(ctx, c.world.done)
		ends <- end{seen, err}
	}()
	s.server.forget(c.name)
	published := time.Now()
	if err := s.server.set(ctx, c.name, snapshot); err != nil {
		return err
	}
	e := <-ends
	if e.err != nil {
		return e.err
	}
	sent, ok := s.server.firstSent(c.name)
	if !ok {
		return fmt.Errorf("the change was seen before it was sent")
	}
	to.latency = append(to.latency, millis(e.seen.at.Sub(sent)))
	to.server = append(to.server, millis(sent.Sub(published)))
	to.bad += e.seen.bad
	return nil
}
