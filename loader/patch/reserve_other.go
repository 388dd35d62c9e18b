//go:build unix && !linux

package patch

import "os"

// reserve gives f size bytes.
func reserve(f *os.File, size int64) error { return f.Truncate(size) }
