//go:build unix

package mmap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart.
var (
	ErrBounds   = errors.New("outside the region")
	ErrAlign    = errors.New("not page-aligned")
	ErrRevoked  = errors.New("region revoked")
	ErrUnmapped = errors.New("region unmapped")
)

type regionState uint8

const (
	live regionState = iota
	revoked
	unmapped
)

// Region is a reserved stretch of address space. Make one with Reserve.
type Region struct {
	base unsafe.Pointer // of the reservation; fixed
	size int64          // what was asked for, bytes
	room int64          // size in whole pages

	mu     sync.RWMutex
	state  regionState // guarded by mu
	pieces int64       // guarded by mu; MapFile and CopyPages calls that took effect
	copied int64       // guarded by mu; bytes in private pages
	locked atomic.Bool // written under mu; its pages stay in memory

	unsealed []span // guarded by mu; what PatchAll may write to
}

// mappings estimates what the regions of this process take of the kernel's
// limit on mappings.
var mappings atomic.Int64

// Mappings returns about how many kernel mappings all live regions hold: one for
// each reservation and at most two more for each piece put into one.
func Mappings() int64 { return mappings.Load() }

// PageSize returns the size of a page in bytes.
func PageSize() int64 { return int64(os.Getpagesize()) }

func pages(n int64) int64 {
	p := PageSize()
	return (n + p - 1) / p * p
}

// Reserve takes size bytes of address space that nobody may read or write yet.
// It costs no memory.
func Reserve(size int64) (*Region, error) {
	if size <= 0 || size > 1<<46 {
		return nil, fmt.Errorf("mmap: reserve %d bytes: %w", size, ErrBounds)
	}
	room := pages(size)
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(room), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: reserve %d bytes: %w", size, err)
	}
	mappings.Add(1)
	return &Region{base: p, size: size, room: room}, nil
}

// Size returns the bytes that were reserved.
func (r *Region) Size() int64 { return r.size }

// Pieces returns how many pieces were put into the region.
func (r *Region) Pieces() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pieces
}

// Copied returns the bytes that the region holds in private pages.
func (r *Region) Copied() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.copied
}

// usable returns why the region cannot be used any more, or nil. r.mu is held.
func (r *Region) usable() error {
	switch r.state {
	case revoked:
		return ErrRevoked
	case unmapped:
		return ErrUnmapped
	default:
		return nil
	}
}

// within checks that [at, at+n) lies in the region and starts on a page.
func (r *Region) within(at, n int64) error {
	if at < 0 || n <= 0 || n > r.size || at > r.size-n {
		return fmt.Errorf("[%d, +%d) of %d bytes: %w", at, n, r.size, ErrBounds)
	}
	if at%PageSize() != 0 {
		return fmt.Errorf("offset %d: %w", at, ErrAlign)
	}
	return nil
}

func (r *Region) addr(at int64) unsafe.Pointer { return unsafe.Add(r.base, at) }

// MapFile shows n bytes of f, from byte off on, at byte at of the region,
// read-only and shared with every other mapping of the file. at and off are
// multiples of the page size; when n is not, the rest of the last page shows
// what the file holds there, or zeros behind its end. f may be closed
// afterwards. A file that is shorter than off+n is refused.
func (r *Region) MapFile(at int64, f *os.File, off, n int64) error {
	if err := r.mapFile(at, f, off, n, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mmap: map %d bytes of %s from byte %d: %w", n, f.Name(), off, err)
	}
	return nil
}

func (r *Region) mapFile(at int64, f *os.File, off, n int64, prot, flags int) error {
	if err := r.within(at, n); err != nil {
		return err
	}
	if off < 0 || off%PageSize() != 0 {
		return fmt.Errorf("file offset %d: %w", off, ErrAlign)
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if off > fi.Size()-n {
		return fmt.Errorf("the file has %d bytes: %w", fi.Size(), ErrBounds)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		_, failed = unix.MmapPtr(int(fd), off, r.addr(at), uintptr(pages(n)), prot, flags|unix.MAP_FIXED)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	r.count()
	return nil
}

// CopyPages puts a copy of b at byte at of the region, a multiple of the page
// size, in private pages that nobody can write to afterwards. What is left of
// the last page is zero.
func (r *Region) CopyPages(at int64, b []byte) error {
	if err := r.copyPages(at, b); err != nil {
		return fmt.Errorf("mmap: copy %d bytes to byte %d: %w", len(b), at, err)
	}
	return nil
}

func (r *Region) copyPages(at int64, b []byte) error {
	if err := r.within(at, int64(len(b))); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	n := pages(int64(len(b)))
	p, err := unix.MmapPtr(-1, 0, r.addr(at), uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	if err != nil {
		return err
	}
	page := unsafe.Slice((*byte)(p), n)
	copy(page, b)
	if err := unix.Mprotect(page, unix.PROT_READ); err != nil {
		return err
	}
	r.count()
	r.copied += n
	return nil
}

func (r *Region) count() {
	r.pieces++
	mappings.Add(2) // the piece, and the rest of what it split
}

// Bytes returns n bytes of the region from off on. Writing to them faults, and
// so does reading a part that nothing was put into: use them inside Guarded, and
// keep them no longer than the region is mapped.
func (r *Region) Bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || n > r.size || off > r.size-n {
		return nil, fmt.Errorf("mmap: bytes [%d, +%d) of %d: %w", off, n, r.size, ErrBounds)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usable(); err != nil {
		return nil, fmt.Errorf("mmap: bytes: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*byte)(r.addr(off)), n), nil
}

// Revoke gives back what is mapped and makes every later access fault. The
// addresses stay reserved, so that a late reader can never see somebody else's
// bytes. Revoking twice, or after Unmap, does nothing.
func (r *Region) Revoke() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != live {
		return nil
	}
	_, err := unix.MmapPtr(-1, 0, r.base, uintptr(r.room), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mmap: revoke %d bytes: %w", r.size, err)
	}
	r.forget(revoked)
	return nil
}

// Unmap gives the addresses back. No slice of the region may be in use.
// Unmapping twice does nothing.
func (r *Region) Unmap() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == unmapped {
		return nil
	}
	if err := unix.MunmapPtr(r.base, uintptr(r.room)); err != nil {
		return fmt.Errorf("mmap: unmap %d bytes: %w", r.size, err)
	}
	r.forget(unmapped)
	mappings.Add(-1)
	return nil
}

// forget drops the pieces' share of the count. r.mu is held.
func (r *Region) forget(next regionState) {
	mappings.Add(-2 * r.pieces)
	r.unlocked()
	r.state, r.pieces, r.copied, r.unsealed = next, 0, 0, nil
}
