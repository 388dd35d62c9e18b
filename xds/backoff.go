package xds

import (
	"math/rand/v2"
	"time"
)

// How long a client waits before it connects again (gRFC A57).
const (
	backoffFirst  = time.Second
	backoffGrowth = 1.6
	backoffMost   = 120 * time.Second
	backoffJitter = 0.2 // a wait is off by at most this share of itself
)

// backoff is the series of waits of one server. The zero value is its start.
type backoff struct{ wait time.Duration }

// next returns how long to wait now, and makes the following wait longer.
func (b *backoff) next() time.Duration {
	b.wait = max(b.wait, backoffFirst)
	d := jittered(b.wait)
	b.wait = min(time.Duration(float64(b.wait)*backoffGrowth), backoffMost)
	return d
}

// after returns how long to wait once a stream that lived for the given time and
// had a response is over, and starts the series anew. A server that was restarted
// is asked again at once; one that hangs up on everybody is not asked more often
// than one that is away.
func (b *backoff) after(lived time.Duration) time.Duration {
	b.wait = 0
	spread := time.Duration(rand.Float64() * backoffJitter * float64(backoffFirst))
	return max(jittered(backoffFirst)-lived, spread)
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - backoffJitter + 2*backoffJitter*rand.Float64()))
}
