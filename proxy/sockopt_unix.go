//go:build unix

package proxy

import (
	"syscall"

	"github.com/quadnine/quadnine/snapshot"
)

func setOption(fd uintptr, o *snapshot.SocketOption) error {
	if o.Bytes != nil {
		return syscall.SetsockoptString(int(fd), o.Level, o.Name, string(o.Bytes))
	}
	return syscall.SetsockoptInt(int(fd), o.Level, o.Name, o.Int)
}
