//go:build linux

package share_test

import (
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/loader/wire"
)

// A process that comes back all the time, and maps what it mapped before, takes one
// place for that: others can attach.
func TestProcessThatComesBackTakesOnePlace(t *testing.T) {
	const places = 4
	r := newRig(t, func(o *share.Options) { o.Clients = places })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	for range places {
		c := r.ready(1)
		must(t, c.conn.Close())
		r.await(loader.EventLeft, 0)
	}
	r.eventually("let in", func() bool {
		c := r.raw(wire.Hello{})
		defer c.conn.Close()
		_ = c.conn.Send(wire.Hello{Model: "score"}.Append(nil)) // a full server may have closed it
		f, err := c.conn.Next()
		return err == nil && f.Type == wire.TypeWelcome
	})
}

// A socket whose queue is full is a living process's.
func TestSocketWithAFullQueueIsNotTaken(t *testing.T) {
	r := newRig(t, nil)
	path := r.socket + "2"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { must(t, unix.Close(fd)) }()
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(t, unix.Listen(fd, 0))
	for {
		var d net.Dialer
		c, err := d.DialContext(r.ctx, "unix", path)
		if err != nil {
			break
		}
		t.Cleanup(func() { c.Close() })
	}
	s, err := share.Listen(t.Context(), share.Options{Socket: path})
	if err == nil {
		must(t, s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "remove it if none does") {
		t.Errorf("got %v", err)
	}
}
