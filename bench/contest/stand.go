package contest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/rivals"
)

// startWithin bounds the start of a backend and of each rival.
const startWithin = 20 * time.Second

// standSpec says what stands ready for a case. Cases share a stand by sharing
// the pointer.
type standSpec struct {
	name     string
	mode     rivals.Mode
	body     int // of the backend's replies; 0: no backend, the entrants answer themselves
	entrants func() []entrantSpec
	fresh    int  // above 0: each entrant is started for its measurement alone, for so many connections
	bothCPUs bool // the entrants are not bound to one CPU
	own      bool // the entrants are all quadnine: no rival is left out by its name
}

// entrantSpec is a rival, and how the load differs for it.
type entrantSpec struct {
	rivals.Rival

	tune func(*driver.Plan)
}

// stand is what stands ready.
type stand struct {
	Options

	spec     *standSpec
	place    rivals.Place
	entrants []*entrant
}

// entrant is one rival of a stand.
type entrant struct {
	entrantSpec

	place  rivals.Place
	run    *rivals.Running // nil: it did not start, or is not started yet
	failed error           // why it did not start
}

// open starts the backend, and the entrants unless they are started one by one.
func (o Options) open(ctx context.Context, spec *standSpec, certs rivals.Certs) (*stand, error) {
	dir, err := os.MkdirTemp(o.Dir, spec.name+"-")
	if err != nil {
		return nil, fmt.Errorf("contest: scratch folder: %w", err)
	}
	s := &stand{Options: o, spec: spec}
	s.place = rivals.Place{Mode: spec.mode, Dir: dir, CPU: o.RestCPU, Connections: spec.fresh, Programs: o.Programs, Certs: certs}
	if spec.body > 0 {
		start, cancel := context.WithTimeout(ctx, startWithin)
		s.place.To, err = rivals.StartBackend(start, s.place, rivals.Body(spec.body))
		cancel()
		if err != nil {
			return nil, err
		}
	}
	s.place.CPU = o.ProxyCPU
	if spec.bothCPUs {
		s.place.CPU = -1
	}
	for i, e := range spec.entrants() {
		if !o.wants(e.Name) && !spec.own {
			continue
		}
		ent := &entrant{entrantSpec: e, place: s.place}
		ent.place.Dir = filepath.Join(dir, strconv.Itoa(i))
		if e.Cannot[string(spec.mode)] == "" && spec.fresh == 0 {
			ent.start(ctx)
			if ctx.Err() != nil {
				s.close()
				return nil, context.Cause(ctx)
			}
			if ent.failed != nil {
				fmt.Fprintf(o.Log, "%s: %v\n", e.Name, ent.failed)
			}
		}
		s.entrants = append(s.entrants, ent)
	}
	return s, nil
}

// start starts the entrant.
func (e *entrant) start(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if e.failed = os.MkdirAll(e.place.Dir, 0o755); e.failed == nil {
		e.run, e.failed = e.Start(ctx, e.place)
	}
}

// stop ends the entrant.
func (e *entrant) stop() {
	if e.run != nil && e.run.Proc != nil {
		e.run.Stop()
	}
	e.run = nil
}

// close ends everything.
func (s *stand) close() {
	for _, e := range s.entrants {
		e.stop()
	}
	if s.place.To != nil {
		s.place.To.Stop()
	}
}

// find returns the entrant of a name that runs; nil without one.
func (s *stand) find(name string) *entrant {
	for _, e := range s.entrants {
		if e.Name == name && e.run != nil {
			return e
		}
	}
	return nil
}
