package shard

import "github.com/quadnine/quadnine/internal/bufpool"

// write sends out, and remembers what the kernel does not take.
func (c *Conn) write(out []byte) {
	n, err := c.carrier.write(out)
	if err != nil {
		c.keep(out)
		c.deafen(err)
		return
	}
	if n == len(out) {
		c.keep(out)
		c.engine.Backlog(0) // there is room again: what waited for it moves, and says so by OnOutput
		return
	}
	c.writing, c.out = true, out
	c.shard.Arm(&c.stall, c.shard.now+int64(WriteStall))
	c.engine.Backlog(len(out) - n)
	c.seen = c.taken.Load()
}

// drained is called when the carrier has got rid of what write left it, or err
// is why it cannot.
func (c *Conn) drained(err error) {
	c.writing = false
	c.shard.Stop(&c.stall)
	c.keep(c.out)
	c.out = nil
	if c.closed {
		return
	}
	if err != nil {
		c.deafen(err)
		return
	}
	c.engine.Backlog(0)
	c.Dirty()
}

// deafen goes on without writing: the peer has gone, but what it said before, an
// early response for one, may still be in the socket. Its end follows at once, or
// is not waited for longer than lingerFor. An engine that wants nothing to be
// read would not see that end, so it ends now.
func (c *Conn) deafen(err error) {
	if c.paused {
		c.close(err)
		return
	}
	c.deaf = err
	c.engine.Backlog(0)
	c.shard.Arm(&c.stall, c.shard.now+int64(lingerFor))
	c.Dirty()
}

// keep lets the engine have out's room again, or less if that is large.
func (c *Conn) keep(out []byte) {
	if cap(out) > keepOutput {
		bufpool.Free(out)
		out = bufpool.Get(0)
	}
	c.spare = out[:0]
}
