package h2

// Shutdown ends the connection gracefully (RFC 9113 section 6.8). The server role
// announces it with GOAWAY(2^31-1) and still takes requests that are on their
// way; with final it sends GOAWAY with the last id, and Closing becomes true when
// no stream is left. The client role opens no more streams.
func (c *Conn) Shutdown(final bool) {
	if c.err != nil || c.final || c.draining && !final {
		return
	}
	c.enter()
	c.draining = true
	c.final = final
	switch {
	case final:
		c.lastTaken = c.lastPeer
		c.writeGoAway(c.lastPeer, NoError, "")
	case c.server:
		c.writeGoAway(maxStreamID, NoError, "")
	}
	c.leave()
}
