package shard

// write sends out, handing what the kernel does not take to a goroutine.
func (c *Conn) write(out []byte) {
	c.pending = out
	if c.raw != nil {
		err := c.raw.Write(c.writeFn)
		if err == nil {
			err = c.tryErr
		}
		if err != nil {
			c.close(err)
			return
		}
		if c.tryN == len(out) {
			c.keep(out)
			c.engine.Backlog(0) // there is room again: what waited for it moves, and says so by OnOutput
			return
		}
		c.pending = out[c.tryN:]
	}
	c.writing = true
	c.shard.Arm(&c.stall, c.shard.now+int64(WriteStall))
	c.engine.Backlog(len(c.pending))
	c.seen = c.taken.Load()
	go func(p []byte) {
		c.writeErr = c.writeRest(p)
		c.shard.Post(&c.written)
	}(c.pending)
}

// writeRest writes p as the peer takes it and counts what it took, so that a slow
// peer can be told from one that stopped. It runs on the writer goroutine.
func (c *Conn) writeRest(p []byte) error {
	if c.raw == nil {
		for len(p) > 0 {
			n, err := c.nc.Write(p[:min(len(p), writeStep)])
			c.taken.Add(int64(n))
			if err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}
	var failed error
	err := c.raw.Write(func(fd uintptr) bool {
		for len(p) > 0 && failed == nil {
			var n int
			if n, failed = tryWrite(fd, p); n == 0 && failed == nil {
				return false // full: called again when there is room
			}
			c.taken.Add(int64(n))
			p = p[n:]
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return err
}

func (c *Conn) keep(out []byte) {
	c.pending = nil
	if cap(out) <= keepOutput {
		c.spare = out[:0]
	}
}

type departure struct{ c *Conn }

// Receive learns that the writer goroutine is done.
func (d departure) Receive(*Mail) {
	c := d.c
	c.writing = false
	c.shard.Stop(&c.stall)
	c.keep(c.pending)
	if c.closed {
		return
	}
	if c.writeErr != nil {
		c.close(c.writeErr)
		return
	}
	c.engine.Backlog(0)
	c.Dirty()
}
