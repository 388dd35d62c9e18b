package policy

import "math"

// backed is how many times the odds under test a wager bets on. Nothing less
// than twice is backed, so a canary up to about 1.4 times as bad as the active
// version (1/ln 2) loses the wager in the long run: callers stay on one version,
// and two sets of callers are never quite alike.
var backed = [...]float64{2, 4, 8, 16, 32, 64}

// wager is evidence against a canary: what one coin, spread evenly over the odds
// that are backed, would have become in a game that is fair, or worse than fair,
// as long as the canary is no worse than the active version. By Ville's
// inequality the chance that such a game is ever won 1/α-fold is at most α,
// however often one looks. The zero wager is the one coin.
type wager [len(backed)]float64 // logarithms, one for each of backed

// settle plays n rounds of which k went against the canary, each with a chance
// of p if it is innocent. With p at 0 or 1 there is nothing to be learnt.
func (w *wager) settle(k, n uint64, p float64) {
	if n == 0 || p <= 0 || p >= 1 {
		return
	}
	for i, odds := range backed {
		win, lose := stakes(odds, p)
		w[i] += float64(k)*win + float64(n-k)*lose
	}
}

// stakes returns the logarithms of what a coin becomes in a round that goes
// against the canary, and in one that does not, when odds times the odds of p
// are backed.
func stakes(odds, p float64) (win, lose float64) {
	whole := 1 + (odds-1)*p
	return math.Log(odds / whole), -math.Log(whole)
}

// worth returns the logarithm of what the coin has become.
func (w *wager) worth() float64 { return mean(w[:]) }

// settled returns after how many requests of a bad canary, in at least nine trials of ten,
// a wager against it is worth goal (a logarithm) and minFailures have failed. bad
// is the canary's error rate, base the active version's, share the canary's part
// of all requests; share 1 is a canary without anything to be compared with.
func settled(bad, base, share, goal float64, minFailures int) float64 {
	const z = 1.2816            // of a normal distribution, 90 % is below
	p, rest := base, 1-bad      // alone: every request is a round
	if 0 < share && share < 1 { // compared: every failure, of either, is one
		p, rest = share, base*(1-share)/share
	}
	best := math.Inf(1)
	for _, odds := range backed {
		win, lose := stakes(odds, p)
		mean := bad*win + rest*lose
		if mean <= 0 {
			continue
		}
		spread := z * math.Sqrt(bad*win*win+rest*lose*lose)
		best = min(best, quantileOf(spread, mean, goal+math.Log(float64(len(backed)))))
	}
	return max(best, quantileOf(z, 1, float64(minFailures)-0.5)/bad)
}

// quantileOf solves mean·n − spread·√n = goal for n: when a sum that grows by
// mean a step is past goal, less what chance takes away.
func quantileOf(spread, mean, goal float64) float64 {
	root := (spread + math.Sqrt(spread*spread+4*mean*goal)) / (2 * mean)
	return root * root
}
