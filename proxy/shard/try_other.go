//go:build !unix

package shard

import "errors"

// canTry is false where the loop has no non-blocking system calls: reads and
// writes go through net.Conn on goroutines.
const canTry = false

var errNoTry = errors.New("non-blocking I/O is not available")

func tryRead(int, []byte) (int, bool, error) { return 0, false, errNoTry }

func tryWrite(int, []byte) (int, error) { return 0, errNoTry }
