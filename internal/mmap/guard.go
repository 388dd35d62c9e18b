//go:build unix

package mmap

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrFault means that mapped bytes could not be read: the file became shorter
// after it was mapped, the medium failed, or the region was revoked.
var ErrFault = errors.New("fault in mapped memory")

// Guarded runs f and returns its error. When f touches bytes of the region that
// cannot be read, f ends there (its defers run) and Guarded returns ErrFault;
// every other panic goes on. It guards the calling goroutine only: f must not
// hand the region's bytes to another one, nor to a library that does (BLAKE3 of
// more than a few KiB starts goroutines: copy a leaf out, then hash the copy).
func (r *Region) Guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		at, ok := r.fault(p)
		if !ok {
			panic(p) //nolint:forbidigo // not ours: a defect of f goes where it would have gone without the guard
		}
		err = fmt.Errorf("mmap: byte %d of %d: %w", at, r.size, ErrFault)
	}()
	return f()
}

// fault returns where in the region the panic p says memory could not be read.
func (r *Region) fault(p any) (at int64, ok bool) {
	e, ok := p.(runtime.Error)
	if !ok {
		return 0, false
	}
	a, ok := e.(interface{ Addr() uintptr }) // documented at debug.SetPanicOnFault
	if !ok {
		return 0, false
	}
	at = int64(a.Addr() - uintptr(r.base))
	return at, a.Addr() >= uintptr(r.base) && at < r.room
}
