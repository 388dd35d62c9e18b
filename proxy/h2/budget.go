package h2

// maxEarned bounds how many answers to our DATA a peer can save up.
const maxEarned = 10_000

// bucket is a token bucket kept as the time at which it would be full again.
type bucket struct{ full int64 }

// take spends one token of burst, refilled at rate a second; false: none is left.
func (b *bucket) take(now, burst, rate int64) bool {
	cost := 1_000_000_000 / rate
	b.full = max(b.full, now) + cost
	return b.full-now <= burst*cost
}

// flood charges for a frame that carries nothing.
func (c *Conn) flood() {
	c.stats.Floods++
	if !c.floods.take(c.now, c.cfg.FloodBurst, c.cfg.FloodRate) {
		c.fail(EnhanceYourCalm, "too many frames that carry nothing")
	}
}

// answered charges for a frame that may answer DATA of ours.
func (c *Conn) answered() {
	if c.earned > 0 {
		c.earned--
		return
	}
	c.flood()
}

// chargeReset charges for a stream that the peer opened for nothing (Rapid
// Reset, MadeYouReset). An upstream that resets is unwell, not an attacker.
func (c *Conn) chargeReset() {
	if c.server && !c.resets.take(c.now, c.cfg.ResetBurst, c.cfg.ResetRate) {
		c.fail(EnhanceYourCalm, "too many streams are reset")
	}
}

// queuedAck counts an acknowledgement put into the output.
func (c *Conn) queuedAck() {
	c.acks++
	if c.acks > c.cfg.MaxPendingAcks {
		c.fail(EnhanceYourCalm, "the peer does not read the acknowledgements it asks for")
	}
}
