package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/rivals"
	"github.com/quadnine/quadnine/loader/delta"
)

// Options say what is measured.
type Options struct {
	Rounds            int // interleaved
	ProxyCPU, RestCPU int
	Programs          rivals.Programs // Quadnine and Self
}

// The load, and what is shipped meanwhile.
const (
	rate        = 10_000 // requests a second
	activations = 200    // in a run
	pace        = 25 * time.Millisecond
	warm        = time.Second
	body        = 1024 // bytes of a reply
)

// startWithin bounds the start of the backend, and of a sidecar.
const startWithin = 20 * time.Second

// The ways in which a run differs.
const (
	quiet  = iota // nothing is shipped
	ships         // versions are activated
	dummy         // a thread burns what that took, at nice 19
	gentle        // likewise, with the short slices that the loader's threads ask for
	ways
)

var wayNames = [ways]string{"nothing shipped", "200 activations", "a dummy that burns the same CPU at nice 19", "the same dummy with the loader's slices"}

// Run is one of them.
type Run struct {
	Latency driver.Latency `json:"latency"`
	CPU     time.Duration  `json:"cpu"`  // of the sidecar
	Late    int            `json:"late"` // versions that did not become active: a newer one had
}

// Measure makes the files in dir and runs all rounds. Progress goes to log.
func Measure(ctx context.Context, dir string, o Options, log io.Writer) (*Report, error) {
	if err := pack(ctx, filepath.Join(dir, "packed"), activations+1); err != nil {
		return nil, fmt.Errorf("ship: %w", err)
	}
	start, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	certs, err := rivals.NewCerts(dir)
	if err != nil {
		return nil, fmt.Errorf("ship: %w", err)
	}
	place := rivals.Place{Mode: rivals.Plain, Dir: filepath.Join(dir, "backend"), CPU: o.RestCPU, Programs: o.Programs, Certs: certs}
	if err := os.MkdirAll(place.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("ship: %w", err)
	}
	to, err := rivals.StartBackend(start, place, rivals.Body(body))
	if err != nil {
		return nil, fmt.Errorf("ship: %w", err)
	}
	defer to.Stop()
	place.To, place.CPU = to, o.ProxyCPU
	r := new(Report)
	for i := range o.Rounds {
		// The dummies come last: what they burn is known then. The other two take turns.
		order := [ways]int{quiet, ships, dummy, gentle}
		if i%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		var got [ways]Run
		for _, way := range order {
			place.Dir = filepath.Join(dir, fmt.Sprintf("%d-%d", i, way))
			got[way], err = o.run(ctx, place, filepath.Join(dir, "packed"), way, (got[ships].CPU-got[quiet].CPU)/activations)
			if err != nil {
				return nil, fmt.Errorf("ship: %s, round %d: %w", wayNames[way], i+1, err)
			}
			fmt.Fprintf(log, "ship: round %d/%d, %s: p99 %v, CPU %v\n", i+1, o.Rounds, wayNames[way], got[way].Latency.P99, got[way].CPU.Round(time.Millisecond))
		}
		r.Rounds = append(r.Rounds, got)
	}
	return r, nil
}

// run puts the load on a fresh sidecar in one way.
func (o Options) run(ctx context.Context, at rivals.Place, packed string, way int, each time.Duration) (out Run, err error) {
	at.Programs.Drops = filepath.Join(at.Dir, "drops")
	if err := os.MkdirAll(at.Programs.Drops, 0o755); err != nil {
		return out, err
	}
	if err := commit(packed, at.Programs.Drops, 1); err != nil {
		return out, err
	}
	start, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	sidecar, err := rivals.Variant(rivals.NameQuadnine, "").Start(start, at)
	if err != nil {
		return out, err
	}
	defer sidecar.Stop()
	load, err := driver.Start(ctx, o.Programs.Self, o.RestCPU, driver.Plan{
		Addr: sidecar.Addr, Path: rivals.QueryPath, Connections: 8, Streams: 32, Rate: rate,
		Warm: warm, Duration: (activations + 4) * pace, Tenants: 16, Metrics: 64, Body: len(at.To.Body),
	})
	if err != nil {
		return out, err
	}
	defer load.Stop()
	before, err := sidecar.CPU()
	if err != nil {
		return out, err
	}
	beside := make(chan error, 1)
	go func() {
		switch way {
		case ships:
			beside <- every(ctx, activations, pace, func(i int) error { return commit(packed, at.Programs.Drops, i+2) })
		case dummy, gentle:
			beside <- burn(ctx, o.Programs.Self, o.ProxyCPU, burnPlan{activations, pace, each, way == gentle})
		default:
			beside <- nil
		}
	}()
	res, err := load.Go(ctx)
	if err := errors.Join(err, <-beside); err != nil {
		return out, fmt.Errorf("%w\n%s", err, sidecar.Output())
	}
	if res.Overloaded {
		return out, fmt.Errorf("it cannot keep up with %d requests a second here", rate)
	}
	after, err := sidecar.CPU()
	out.Latency, out.CPU = res.Latency, after-before
	if err == nil && way == ships {
		out.Late, err = settled(ctx, sidecar.Admin)
	}
	return out, err
}

// settled waits until the last version is active, and returns how many were not,
// because a newer one was there first.
func settled(ctx context.Context, admin string) (late int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, errors.New("the last version did not become active"))
	defer cancel()
	want := fmt.Sprintf(`quadnine_model_version{model="bench",state="active"} %d`, activations+1)
	for {
		page, err := get(ctx, "http://"+admin+"/stats/prometheus")
		if err != nil {
			return 0, err
		}
		if strings.Contains(page, want) {
			_, rest, _ := strings.Cut(page, "\nquadnine_model_quarantined ")
			line, _, _ := strings.Cut(rest, "\n")
			return strconv.Atoi(line)
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func sized(b []byte) delta.Sized { return bytes.NewReader(b) }
