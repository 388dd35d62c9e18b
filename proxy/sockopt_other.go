//go:build !unix

package proxy

import (
	"errors"

	"github.com/quadnine/quadnine/snapshot"
)

func setOption(uintptr, *snapshot.SocketOption) error {
	return errors.New("not supported on this system")
}
