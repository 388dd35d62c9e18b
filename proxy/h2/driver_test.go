package h2_test

import (
	"net"
	"testing"

	"github.com/quadnine/quadnine/proxy/h2"
)

// driver runs a Conn over a net.Conn: one goroutine owns the engine, another
// only reads.
type driver struct {
	nc    net.Conn
	c     *h2.Conn
	calls chan func()
	done  chan struct{}
}

func drive(nc net.Conn, c *h2.Conn) *driver {
	d := &driver{nc: nc, c: c, calls: make(chan func()), done: make(chan struct{})}
	go d.run()
	return d
}

// do runs f where the engine lives and waits for it; false: the driver is over.
func (d *driver) do(f func()) bool {
	ran := make(chan struct{})
	select {
	case d.calls <- func() { f(); close(ran) }:
		<-ran
		return true
	case <-d.done:
		return false
	}
}

func (d *driver) run() {
	defer close(d.done)
	defer d.nc.Close()
	reads := make(chan []byte)
	go func() {
		defer close(reads)
		for {
			buf := make([]byte, 1500) // frames come in pieces
			n, err := d.nc.Read(buf)
			if err != nil {
				return
			}
			select {
			case reads <- buf[:n]:
			case <-d.done:
				return
			}
		}
	}()
	var now int64
	var spare []byte
	for {
		out := d.c.TakeOutput(spare)
		if len(out) > 0 {
			if _, err := d.nc.Write(out); err != nil {
				d.c.FeedEOF()
				return
			}
		}
		spare = out
		d.c.Backlog(0)
		if d.c.Active() == 0 && d.c.Closing() {
			return
		}
		if more := d.c.TakeOutput(nil); len(more) > 0 {
			if _, err := d.nc.Write(more); err != nil {
				d.c.FeedEOF()
				return
			}
			d.c.Backlog(0)
			continue
		}
		select {
		case p, ok := <-reads:
			if !ok {
				d.c.FeedEOF()
				return
			}
			now += 1e6
			_ = d.c.Feed(now, p) // final: Closing is true then
		case f := <-d.calls:
			f()
		}
	}
}

// listen returns a loopback listener that the test closes.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}
