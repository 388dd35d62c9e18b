package h2

// What a peer may send in answer to what is done for it. The factors are those
// of Envoy's http2 protocol options: PRIORITY 100×(1+streams), WINDOW_UPDATE
// 5+2×(streams+10×DATA frames sent). Envoy lets a connection save up all its
// life; here maxEarned bounds it, or one that served a million requests could
// begin a flood of millions.
const (
	maxEarned           = 10_000
	freeUpdates         = 5
	updatesPerStream    = 2
	updatesPerData      = 20
	prioritiesPerStream = 100
	pingsPerStream      = 2
	pingsPerData        = 4 // gRPC measures bandwidth with a PING at most for each read
	latePerStream       = 4 // a head, an end or trailers, and a reset that crosses ours
)

// bucket is a token bucket kept as the time at which it would be full again.
type bucket struct{ full int64 }

// take spends one token of burst, refilled at rate a second; false: none is left.
func (b *bucket) take(now, burst, rate int64) bool {
	cost := 1_000_000_000 / rate
	b.full = max(b.full, now) + cost
	return b.full-now <= burst*cost
}

// give puts one token back.
func (b *bucket) give(rate int64) { b.full -= 1_000_000_000 / rate }

// flood charges for a frame that carries nothing.
func (c *Conn) flood(f Flood) {
	c.stats.Floods++
	if !c.floods.take(c.now, c.cfg.FloodBurst, c.cfg.FloodRate) {
		c.over(f)
	}
}

// earnStream and earnData say what a stream and a DATA frame of ours entitle the
// peer to.
func (c *Conn) earnStream() {
	c.earned = min(c.earned+pingsPerStream, maxEarned)
	c.updates = min(c.updates+updatesPerStream, maxEarned)
	c.priorities = min(c.priorities+prioritiesPerStream, maxEarned)
}

func (c *Conn) earnData() {
	c.earned = min(c.earned+pingsPerData, maxEarned)
	c.updates = min(c.updates+updatesPerData, maxEarned)
}

// chargePing charges for a PING, which may measure what DATA of ours takes.
func (c *Conn) chargePing() {
	if c.earned > 0 {
		c.earned--
		return
	}
	c.flood(FloodPing)
}

// chargeUpdate charges for a WINDOW_UPDATE. Past Envoy's bound the common budget
// is charged: who gives credit byte by byte for large frames is slow, not hostile.
func (c *Conn) chargeUpdate() {
	if c.updates > 0 {
		c.updates--
		return
	}
	c.flood(FloodWindowUpdate)
}

// chargePriority charges for a PRIORITY.
func (c *Conn) chargePriority() {
	if c.priorities--; c.priorities < 0 {
		c.over(FloodPriority)
	}
}

// chargeEmpty charges for a frame that had room for payload and has none, unless
// the last such frame had some.
func (c *Conn) chargeEmpty(empty bool) {
	if !empty {
		c.empties = 0
		return
	}
	if c.empties++; c.empties > c.cfg.MaxEmptyFrames {
		c.over(FloodEmpty)
	}
}

// chargeReset charges for a stream that the peer opened for nothing (Rapid
// Reset, MadeYouReset). An upstream that resets is unwell, not an attacker.
func (c *Conn) chargeReset() {
	if c.server && !c.resets.take(c.now, c.cfg.ResetBurst, c.cfg.ResetRate) {
		c.over(FloodReset)
	}
}

// expectStrays notes that a stream is reset or refused here: what its window allowed
// may still be on its way, of its window before and after our SETTINGS arrived, and
// some frames without payload.
func (c *Conn) expectStrays() {
	c.strays += max(int64(c.cfg.StreamWindow), initialWindow)
	c.late = min(c.late+latePerStream, maxEarned)
}

// chargeStray charges for DATA of streams that are no more. Its window is given
// back, so that nothing else would bound it.
func (c *Conn) chargeStray(n int) {
	if c.strays -= int64(n); c.strays < 0 {
		c.over(FloodClosed)
	}
}

// chargeLate charges for a frame without payload of a stream that is no more. A
// peer that stood still may answer thousands of requests that were given up, at once.
func (c *Conn) chargeLate() {
	if c.late > 0 {
		c.late--
		return
	}
	c.flood(FloodClosed)
}

// completed takes a stream that ran to its end as a reason to bear one that does
// not: Envoy too cuts only those that reset the larger part. A caller whose
// requests time out now and then is no attacker.
func (c *Conn) completed() {
	if c.resets.full > c.now {
		c.resets.give(c.cfg.ResetRate)
	}
}

// queuedAck counts an acknowledgement put into the output.
func (c *Conn) queuedAck() {
	c.acks++
	if c.acks > c.cfg.MaxPendingAcks {
		c.over(FloodUnread)
	}
}

// Watch returns a number that changes with each frame or header block that
// becomes complete, and whether one has begun and is not (of DATA, its header),
// or the preface or the peer's SETTINGS are still to come: the driver's limit
// against slow writers is over when pending stays true and the number the same.
func (c *Conn) Watch() (mark uint64, pending bool) {
	mark = c.stats.Frames - c.stats.Continuations + c.continued
	return mark, c.err == nil && c.Reading() && (len(c.in) > 0 || c.block.stream != 0 || !c.gotSettings)
}

// Expire ends the connection because the driver's time limit of that kind, SlowHead
// or NoSettingsAck, is over.
func (c *Conn) Expire(f Flood) error {
	c.enter()
	c.over(f)
	c.leave()
	return c.err
}
