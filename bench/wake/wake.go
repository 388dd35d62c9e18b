package wake

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/quadnine/quadnine/bench/grid"
)

// Options bound a measurement.
type Options struct {
	Samples int // of each way; 5,000 when 0
}

// Report is what Measure found.
type Report struct {
	Procs   int   `json:"procs"` // GOMAXPROCS
	Samples int   `json:"samples"`
	Ways    []Way `json:"ways"`
}

// Way is one way of being woken. The delays run from just before what makes the
// goroutine ready to its first instruction.
type Way struct {
	Name string        `json:"name"`
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
}

// rest lets other threads fall asleep between two samples: what is measured
// includes waking them.
const rest = 200 * time.Microsecond

// Measure runs every way in turn.
func Measure(ctx context.Context, o Options) (*Report, error) {
	if o.Samples <= 0 {
		o.Samples = 5000
	}
	// As the sidecar runs with one shard; two are needed to steal.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	r := &Report{Procs: runtime.GOMAXPROCS(0), Samples: o.Samples}
	for _, w := range []struct {
		name    string
		measure func(context.Context, int) ([]time.Duration, error)
	}{
		{"on its own P: the waker blocks next", own},
		{"stolen by another P: the waker goes on", stolen},
		{"global queue, nothing else to run", func(ctx context.Context, n int) ([]time.Duration, error) { return global(ctx, n, 0) }},
		{"global queue, 4 others of 20 µs each on every P", func(ctx context.Context, n int) ([]time.Duration, error) { return global(ctx, n, 4*r.Procs) }},
		{"a socket, through Go's poller", netpoll},
		{"a socket, in epoll_wait on the goroutine", syscallPoll},
	} {
		delays, err := w.measure(ctx, o.Samples)
		if err != nil {
			return r, fmt.Errorf("wake: %s: %w", w.name, err)
		}
		slices.Sort(delays)
		r.Ways = append(r.Ways, Way{w.name, quantile(delays, 50), quantile(delays, 99)})
	}
	return r, nil
}

// quantile returns the delay that percent of the sorted ones do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// Table returns the report as a table.
func (r *Report) Table() *grid.Table {
	t := &grid.Table{
		Title:  "Ready to running",
		About:  fmt.Sprintf("How long a goroutine that is ready waits until it runs, in µs; GOMAXPROCS %d, %d samples of each.", r.Procs, r.Samples),
		Header: []string{"woken", "p50", "p99"},
	}
	for _, w := range r.Ways {
		t.Add(w.Name, micros(w.P50), micros(w.P99))
	}
	return t
}

func micros(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Microsecond), 'f', 2, 64)
}

// spin keeps its P busy without a system call.
func spin(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; { //nolint:revive // busy is what it is to be
	}
}

// own wakes a goroutine and blocks: it runs next on the same P.
func own(ctx context.Context, n int) ([]time.Duration, error) {
	// With one P there is nobody to steal it, whatever it costs to wake a thread.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	return pingPong(ctx, n, func() {})
}

// stolen wakes a goroutine and keeps the P: another P has to take it. Ps leave a
// goroutine that was just made ready to its own P for some microseconds.
func stolen(ctx context.Context, n int) ([]time.Duration, error) {
	return pingPong(ctx, n, func() { spin(rest) })
}

// pingPong wakes a goroutine n times, doing then after each.
func pingPong(ctx context.Context, n int, then func()) ([]time.Duration, error) {
	ball, back := make(chan time.Time), make(chan time.Duration, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for at := range ball {
			back <- time.Since(at)
		}
	})
	delays := make([]time.Duration, 0, n)
	for range n {
		if ctx.Err() != nil {
			break
		}
		time.Sleep(rest) // it waits in its receive by now
		ball <- time.Now()
		then()
		delays = append(delays, <-back)
	}
	close(ball)
	wg.Wait()
	return delays, ctx.Err()
}

// global has a goroutine yield, which puts it at the end of the global queue,
// while others keep the Ps busy.
func global(ctx context.Context, n, others int) ([]time.Duration, error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range others {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					spin(20 * time.Microsecond)
					runtime.Gosched()
				}
			}
		})
	}
	delays := make([]time.Duration, 0, n)
	for range n {
		if ctx.Err() != nil {
			break
		}
		at := time.Now()
		runtime.Gosched()
		delays = append(delays, time.Since(at))
	}
	close(stop)
	wg.Wait()
	return delays, ctx.Err()
}

var errShort = errors.New("a message did not come whole")
