package shard

import (
	"net"
	"syscall"
)

// writeStep is how much is written at a time where partial writes cannot be seen.
const writeStep = 4 << 10

// portable carries a connection by goroutines: one that reads, and while the
// kernel takes nothing more, one that writes.
type portable struct {
	c   *Conn
	raw syscall.RawConn // nil when it is no socket

	// The reader fills these, posts arrived, and waits for next.
	buf     *readBuffer
	n       int
	readErr error
	arrived Mail
	next    chan struct{}
	readFn  func(fd uintptr) bool

	// The loop tries to write; what is left goes to a writer goroutine.
	pending  []byte
	tryN     int
	tryErr   error
	writeFn  func(fd uintptr) bool
	writeErr error
	written  Mail
}

func newPortable(c *Conn) *portable {
	t := &portable{c: c, next: make(chan struct{}, 1)}
	t.arrived.To = arrival{t}
	t.written.To = departure{t}
	if sc, ok := c.nc.(syscall.Conn); ok && canTry {
		if raw, err := sc.SyscallConn(); err == nil {
			t.raw = raw
		}
	}
	t.readFn = func(fd uintptr) bool {
		buf := readBuffers.Get().(*readBuffer)
		n, again, err := tryRead(int(fd), buf[:])
		if again || n == 0 {
			readBuffers.Put(buf)
			t.n, t.readErr = 0, err
			return !again
		}
		t.buf, t.n, t.readErr = buf, n, err
		return true
	}
	t.writeFn = func(fd uintptr) bool {
		t.tryN, t.tryErr = tryWrite(int(fd), t.pending)
		return true
	}
	return t
}

func (t *portable) start()  { go t.readLoop() }
func (t *portable) resume() { t.next <- struct{}{} }

func (t *portable) readLoop() {
	for {
		t.read()
		failed := t.readErr != nil
		t.c.shard.Post(&t.arrived)
		if failed {
			return
		}
		if _, ok := <-t.next; !ok {
			return
		}
	}
}

func (t *portable) read() {
	if t.raw != nil {
		if err := t.raw.Read(t.readFn); err != nil {
			t.n, t.readErr = 0, err
		}
		return
	}
	buf := readBuffers.Get().(*readBuffer)
	t.n, t.readErr = t.c.nc.Read(buf[:])
	if t.n == 0 {
		readBuffers.Put(buf)
		return
	}
	t.buf = buf
}

type arrival struct{ t *portable }

// Receive takes what the reader read.
func (a arrival) Receive(*Mail) {
	t := a.t
	buf, n, err := t.buf, t.n, t.readErr
	t.buf = nil
	var p []byte
	if buf != nil {
		p = buf[:n]
	}
	goOn := t.c.received(p, err)
	if buf != nil {
		readBuffers.Put(buf)
	}
	if goOn {
		t.resume()
	}
}

// write tries, and hands what the kernel does not take to a goroutine.
func (t *portable) write(p []byte) (int, error) {
	t.pending = p
	if t.raw != nil {
		err := t.raw.Write(t.writeFn)
		if err == nil {
			err = t.tryErr
		}
		if err != nil || t.tryN == len(p) {
			t.pending = nil
			return t.tryN, err
		}
		t.pending = p[t.tryN:]
	}
	go func(p []byte) {
		t.writeErr = t.writeRest(p)
		t.c.shard.Post(&t.written)
	}(t.pending)
	return len(p) - len(t.pending), nil
}

// writeRest writes p as the peer takes it and counts what it took, so that a slow
// peer can be told from one that stopped. It runs on the writer goroutine.
func (t *portable) writeRest(p []byte) error {
	if t.raw == nil {
		for len(p) > 0 {
			n, err := t.c.nc.Write(p[:min(len(p), writeStep)])
			t.c.taken.Add(int64(n))
			if err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}
	var failed error
	err := t.raw.Write(func(fd uintptr) bool {
		for len(p) > 0 && failed == nil {
			var n int
			if n, failed = tryWrite(int(fd), p); n == 0 && failed == nil {
				return false // full: called again when there is room
			}
			t.c.taken.Add(int64(n))
			p = p[n:]
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return err
}

type departure struct{ t *portable }

// Receive learns that the writer goroutine is done.
func (d departure) Receive(*Mail) {
	d.t.pending = nil
	d.t.c.drained(d.t.writeErr)
}

func (t *portable) closeWrite() bool {
	hc, ok := t.c.nc.(halfCloser)
	return ok && hc.CloseWrite() == nil
}

func (t *portable) reset() {
	if tc, ok := t.c.nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0) // best effort: the peer sees an end in any case
	}
}

func (t *portable) close() {
	_ = t.c.nc.Close() // nothing is left to do about a failed close
	close(t.next)
}
