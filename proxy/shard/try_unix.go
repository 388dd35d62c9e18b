//go:build unix

package shard

import (
	"errors"
	"io"
	"syscall"
)

// canTry says that reads and writes can be tried on the descriptor itself.
const canTry = true

// tryRead reads without blocking; again means there is nothing to read yet.
func tryRead(fd int, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(fd, p)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		case err != nil:
			return 0, false, err
		case n == 0:
			return 0, false, io.EOF
		}
		return n, false, nil
	}
}

// tryWrite writes what the kernel takes without blocking.
func tryWrite(fd int, p []byte) (n int, err error) {
	for {
		n, err = syscall.Write(fd, p)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, err
		}
		return n, nil
	}
}
