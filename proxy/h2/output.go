package h2

// output gathers bytes for the peer.
type output struct{ b []byte }

// TakeOutput hands over the pending output, which may be empty, and goes on
// writing into spare. OnOutput will be called again when there is more. After
// the driver has passed the bytes on, it calls Backlog.
func (c *Conn) TakeOutput(spare []byte) []byte {
	p := c.out.b
	c.out.b = spare[:0]
	c.asked = false
	if c.backlog == 0 {
		c.acks = 0
	}
	return p
}

// Backlog says that n bytes taken with TakeOutput are not accepted by the kernel
// yet. The driver calls it after each write, with 0 when everything was
// accepted: body data that waits for room moves then.
func (c *Conn) Backlog(n int) {
	c.enter()
	c.backlog = n
	if n == 0 {
		c.acks = 0
	}
	c.leave()
}

// Reading reports whether the driver should read. The server role stops when the
// peer does not read its answers: heads are not subject to flow control, so this
// is what bounds them. The client role always reads, so that two engines never
// wait for one another.
func (c *Conn) Reading() bool {
	return !c.server || len(c.out.b)+c.backlog < 4*c.cfg.OutputLimit+64<<10
}

// Closing reports whether the driver should close the transport once the output
// is flushed.
func (c *Conn) Closing() bool {
	return c.err != nil || c.active == 0 && (c.final || !c.server && c.goAwayIn)
}
