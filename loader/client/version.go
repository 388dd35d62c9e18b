package client

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/wire"
)

// ErrFault means that mapped bytes could not be read: the file behind them was cut
// or its medium failed.
var ErrFault = mmap.ErrFault

// Info describes a version.
type Info struct {
	Model   string
	Number  uint64
	Root    delta.Root // over the whole version's bytes; what was mapped has it
	Size    int64      // bytes
	Private int64      // bytes that were copied into private memory
	Hashed  int64      // bytes that were hashed for it: what the version before does not show as well
	Sealed  bool       // the sidecar copied its files for this process, whose user could have changed them
}

// String returns "model@number".
func (i *Info) String() string { return fmt.Sprintf("%s@%d", i.Model, i.Number) }

// version is a version that is mapped here.
type version struct {
	info    Info
	session *session // that brought it
	region  *mmap.Region
	windows []wire.Window
	file    *delta.Safetensors
	shows   []stretch    // what its bytes are made of
	leaves  delta.Leaves // of its bytes, as they were checked

	refs    atomic.Int64 // leases + 1 until drop; reaches 0 exactly once
	dropped sync.Once
	revoked atomic.Bool
	done    chan struct{} // closed when revoked
	freed   chan struct{} // closed when unmapped
}

func (v *version) acquire() bool {
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

func (v *version) release() {
	switch n := v.refs.Add(-1); {
	case n == 0:
		go v.free() // which is a system call: not on a reader's time
	case n < 0:
		panic(fmt.Sprintf("client: a lease of %s was released twice", &v.info)) //nolint:forbidigo // the next step would be unmapping under a reader
	}
}

// drop gives up the hold that keeps v mapped without leases.
func (v *version) drop() { v.dropped.Do(v.release) }

func (v *version) free() {
	_ = v.region.Unmap() // of a whole reservation: nothing that can be mended
	v.session.client.note(v, false)
	close(v.freed)
}

// revoke takes the memory back from under v's readers.
func (v *version) revoke() {
	if v.revoked.Swap(true) {
		return
	}
	close(v.done)
	_ = v.region.Revoke() // of a whole reservation: nothing that can be mended
}

// with runs f over the version's bytes. The caller holds a lease.
func (v *version) with(f func(View) error) error {
	if v.revoked.Load() {
		return fmt.Errorf("client: %s: %w", &v.info, ErrRevoked)
	}
	err := v.region.Guarded(func() error { return f(View{v}) })
	switch {
	case err == nil:
		return nil
	case v.revoked.Load(): // whatever f made of bytes that went away under it
		return fmt.Errorf("client: %s: %w", &v.info, ErrRevoked)
	case errors.Is(err, mmap.ErrFault):
		return fmt.Errorf("client: %s: its file was cut or cannot be read: %w", &v.info, err)
	default:
		return err
	}
}
