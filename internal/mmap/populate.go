//go:build unix

package mmap

import (
	"fmt"
	"runtime"
	"unsafe"
)

// populateStep bounds how long a Revoke waits for a Populate under way.
const populateStep = 64 << 20

// Populate brings the whole region into memory, so that its readers do not
// fault. It must be filled without gaps: a hole, and the part of a file that was
// cut off after it was mapped, are ErrFault. It may take as long as reading the
// files does.
func (r *Region) Populate() error {
	for at := int64(0); at < r.room; at += populateStep {
		if err := r.populatePart(at, min(populateStep, r.room-at)); err != nil {
			return fmt.Errorf("mmap: populate %d bytes from byte %d: %w", r.size, at, err)
		}
	}
	return nil
}

func (r *Region) populatePart(at, n int64) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usable(); err != nil {
		return err
	}
	if done, err := r.populate(at, n); done {
		return err
	}
	var sum byte
	err := r.Guarded(func() error {
		sum = touch(unsafe.Slice((*byte)(r.addr(at)), n))
		return nil
	})
	runtime.KeepAlive(sum) // the reads are wanted
	return err
}

// touch reads one byte of each page.
func touch(b []byte) (sum byte) {
	for i := int64(0); i < int64(len(b)); i += PageSize() {
		sum ^= b[i]
	}
	return sum
}
