package contest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// hold starts a proxy, opens connections, each of which asks once and a few times
// more in turn with all the others, and reads the proxy's memory while they
// stand.
type hold struct{ connections int }

// errLimit says that this machine allows too few open files for a case.
var errLimit = errors.New("the limit of open files is too low")

// spareFiles is what a proxy opens besides its connections, and more.
const spareFiles = 256

// wantedFiles is enough for every case.
const wantedFiles = 1 << 16

// heldRate is what all the connections ask together, each now and then.
const heldRate = 2_000

func (h hold) measure(ctx context.Context, s *stand, e *entrant, d time.Duration) (Sample, error) {
	allowed, err := raiseFiles()
	if err != nil {
		return Sample{}, err
	}
	held, note := h.held(e.Name, allowed)
	if held < h.connections*9/10 {
		return Sample{}, fmt.Errorf("%w: %d are allowed, enough for %d of %d connections", errLimit, allowed, max(held, 0), h.connections)
	}
	e.start(ctx)
	if e.failed != nil {
		return Sample{}, e.failed
	}
	defer e.stop()
	if h.connections > 0 {
		p := plan(1, unique, at(heldRate))
		p.Addr, p.Connections, p.Duration, p.Body, p.Hold = e.run.Addr, held, d, s.spec.body, true
		p.Streams = 4
		run, err := driver.Start(ctx, s.Programs.Self, s.RestCPU, p)
		if err != nil {
			return Sample{}, err
		}
		defer run.Stop()
		if _, err := run.Go(ctx); err != nil {
			return Sample{}, err
		}
	}
	// What was freed while connecting is given back within this time, or not
	// soon enough to matter.
	if err := pause(ctx, d); err != nil {
		return Sample{}, err
	}
	out := Sample{Note: note}
	if out.RSS, err = e.run.RSS(); err != nil {
		return Sample{}, err
	}
	out.Anon, err = e.run.Anon()
	return out, err
}

// held returns how many connections a rival gets where so many open files are
// allowed, and a note when that is fewer than the case wants.
func (h hold) held(rival string, allowed int) (n int, note string) {
	each := 1
	if rival == rivals.NameFloor {
		each = 2 // one to the backend as well
	}
	n = min(h.connections, (allowed-spareFiles)/each)
	if n < h.connections {
		note = thousands(n) + " connections: this machine allows " + thousands(allowed) + " open files"
		if each == 2 {
			note += ", and a pass-through needs two a connection"
		}
	}
	return n, note
}

func (h hold) start(context.Context, *stand, *entrant, time.Duration) (*proc.Proc, error) {
	return nil, nil
}

// raiseFiles raises this process's limit of open files, and so its children's, to
// what is allowed or can be had, and returns that.
func raiseFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("contest: limit of open files: %w", err)
	}
	if l.Max < wantedFiles { // root may raise it, but not in every container
		if more := (syscall.Rlimit{Cur: wantedFiles, Max: wantedFiles}); syscall.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
			return wantedFiles, nil
		}
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil { // the syscall package's: children then get it too
		return 0, fmt.Errorf("contest: limit of open files: %w", err)
	}
	return int(min(l.Max, 1<<30)), nil
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
