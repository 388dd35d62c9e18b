//go:build unix && !linux

package mmap

// populate has no system call for it here.
func (r *Region) populate(at, n int64) (bool, error) { return false, nil }
