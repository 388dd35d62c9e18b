// Package mmap maps files read-only into reserved stretches of address space
// and makes a fault in them an error instead of a crash.
//
// A Region is reserved first (no memory, no access), filled with pieces of
// files and with copied pages, sealed by being published, and read through
// slices that Guarded hands out. It is the only package that uses unsafe, and
// it does so to turn an address from the kernel into a slice.
//
//	r, err := mmap.Reserve(size)
//	err = r.MapFile(0, base, 0, size)
//	err = r.MapFile(at, patch, off, n) // over the base
//	err = r.Guarded(func() error { b, err := r.Bytes(0, size); ... })
//
// # Concurrency
//
// Every method is safe for concurrent use. What they cannot see is a slice that
// somebody still reads: Unmap must not be called before the last reader is done,
// because the kernel may give the addresses to somebody else. Revoke may: late
// readers fault, and Guarded turns the fault into ErrFault. Mapping changes wait
// for a Populate under way.
package mmap
