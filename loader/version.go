package loader

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
)

// Errors that callers tell apart.
var (
	ErrNoVersion = errors.New("no version of the model is active")
	ErrRevoked   = errors.New("lease revoked")
	ErrFault     = mmap.ErrFault
)

// Info describes a version. It does not change once the version is published.
type Info struct {
	Model    string
	Number   uint64
	Root     delta.Root // over the whole version's bytes
	Schema   int
	Eval     *delta.Eval
	Canary   delta.Canary
	Shadow   *delta.Shadow  // nil: its manifest wants none
	Warmup   []delta.Warmup // requests that it must answer before anybody else's
	Drop     string         // where it came from
	Dropped  time.Time      // when the drop was seen
	LoadedAt time.Time      // when it was mapped
	Size     int64          // of the whole version, bytes
	Ingested int64          // read from the drop, bytes
	Copied   int64          // in private memory, bytes
	Copies   int64          // extents, or runs of rows, that were copied for it
	Pieces   int64          // mapped pieces: 1 for a full file
}

// String returns "model@number", as it stands in x-quadnine-model.
func (i *Info) String() string { return fmt.Sprintf("%s@%d", i.Model, i.Number) }

// Version is a mapped version of a model.
type Version struct {
	info     Info
	refs     atomic.Int64 // leases + 1 while reachable; reaches 0 exactly once
	faults   atomic.Int64 // reads that failed
	revoked  atomic.Bool
	resident atomic.Bool   // its pages were all read in
	done     chan struct{} // closed when revoked
	idle     chan<- struct{}
	region   *mmap.Region
	layout   layout
	prepared any // Options.Prepare's result; set before the version is published

	shared  *Shared // nil without Options.Sharer
	image   *image
	state   State     // guarded by the model's mu
	entered time.Time // guarded by the model's mu; when state was
	judged  time.Time // guarded by the model's mu; when the judge was asked
}

// acquire takes a lease, unless the version is on its way out.
func (v *Version) acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *Version) release() {
	switch n := v.refs.Add(-1); {
	case n == 0:
		select {
		case v.idle <- struct{}{}:
		default: // somebody has woken the loader already
		}
	case n < 0:
		panic(fmt.Sprintf("loader: a lease of %s was released twice", &v.info)) //nolint:forbidigo // the next step would be unmapping under a reader
	}
}

// with runs f over the version's bytes. The caller holds a lease.
func (v *Version) with(f func(View) error) error {
	if v.revoked.Load() {
		return fmt.Errorf("loader: %s: %w", &v.info, ErrRevoked)
	}
	err := v.region.Guarded(func() error { return f(View{v}) })
	if err == nil {
		return nil
	}
	if v.revoked.Load() { // whatever f made of bytes that went away under it
		return fmt.Errorf("loader: %s: %w", &v.info, ErrRevoked)
	}
	if !errors.Is(err, mmap.ErrFault) && !errors.Is(err, mmap.ErrRevoked) {
		return err
	}
	v.faults.Add(1)
	return fmt.Errorf("loader: %s: its file was cut or cannot be read: %w", &v.info, err)
}

// Lease is a counted hold on a version. The zero Lease holds nothing.
type Lease struct {
	v    *Version
	role State
}

// Release gives the lease back. It must be called exactly once.
func (l Lease) Release() {
	if l.v != nil {
		l.v.release()
	}
}

// Version returns what is held, or nil for the zero Lease. It can stand for the
// lease where one word must do: its Release gives the lease back.
func (l Lease) Version() *Version { return l.v }

// Release gives back a lease on v, once for each Lease that was taken.
func (v *Version) Release() { v.release() }

// Info describes v.
func (v *Version) Info() *Info { return &v.info }

// Info returns what is held, or nil for the zero Lease.
func (l Lease) Info() *Info {
	if l.v == nil {
		return nil
	}
	return &l.v.info
}

// Role returns what the version was when the lease was taken: Canary, Active or
// Standby.
func (l Lease) Role() State { return l.role }

// Prepared returns what Options.Prepare made of the version.
func (l Lease) Prepared() any {
	if l.v == nil {
		return nil
	}
	return l.v.prepared
}

// Done is closed when the lease is revoked: its version was unloading for longer
// than the reclaim time. The zero Lease has none.
func (l Lease) Done() <-chan struct{} {
	if l.v == nil {
		return nil
	}
	return l.v.done
}

// With runs f over the version's bytes and returns its error. f must not keep a
// slice of them, nor hand one to another goroutine. If the bytes cannot be read,
// f ends where it tried to and With returns ErrFault, or ErrRevoked when the
// lease is why.
func (l Lease) With(f func(View) error) error {
	if l.v == nil {
		return fmt.Errorf("loader: %w", ErrNoVersion)
	}
	return l.v.with(f)
}
