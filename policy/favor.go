package policy

import "math"

// favor is evidence for a canary: what one coin, half of it in each of two
// games, would have become, as logarithms. Both games are fair, or worse than
// fair, as long as the canary's error rate is at least margin times the larger
// of the active version's and the baseline. So their mean is, and by Ville's
// inequality the chance that it is ever won 1/β-fold is at most β, however often
// one looks. The zero favor is the one coin.
//
// In the first game, each failure of either version is bet on not to be the
// canary's. Let the canary's n requests each fail with a chance of at least
// margin·p and the active version's m with p. A coin then becomes on average at
// most exp(p·(n·margin·(w−1) + m·(l−1))), where w ≤ 1 is what a failure of the
// canary leaves of it and l what one of the active version makes of it; stakes
// chooses them such that this is exp(0). In the second, each request of the
// canary is bet on not to fail, against a chance of margin times the baseline.
type favor [2]float64

// compare plays a stratum's failures: n of both versions, k of them the
// canary's, which has the share of the stratum's requests. With a share of 0 or
// 1 there is nothing to be learnt.
func (f *favor) compare(k, n uint64, share, margin float64) {
	if n == 0 || share <= 0 || share >= 1 {
		return
	}
	win, lose := clears(share, margin)
	f[0] += float64(k)*lose + float64(n-k)*win
}

// clears returns the logarithms of what a coin becomes when a failure is the
// active version's (win) and when it is the canary's (lose).
func clears(share, margin float64) (win, lose float64) {
	whole := 1 + (margin-1)*share // odds of margin are share·margin/whole
	return math.Log(whole), math.Log(whole / margin)
}

// alone plays all of the canary's n requests, k of which failed, against margin
// times the chance base. What was played before is forgotten.
func (f *favor) alone(k, n uint64, base, margin float64) {
	win, lose := survives(base, margin)
	f[1] = float64(k)*lose + float64(n-k)*win
}

// survives returns the logarithms of what a coin becomes with a request of the
// canary that succeeds (win), and with one that fails (lose).
func survives(base, margin float64) (win, lose float64) {
	return math.Log1p(-base) - math.Log1p(-base*margin), -math.Log(margin)
}

// worth returns the logarithm of what the coin has become.
func (f *favor) worth() float64 { return mean(f[:]) }

// mean returns the logarithm of the mean of what logs are the logarithms of.
func mean(logs []float64) float64 {
	top := logs[0]
	for _, l := range logs[1:] {
		top = max(top, l)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}

// tails are the shares of answers above the limit that haste bets on, where a
// P95 at the limit leaves latencyTail.
var tails = [...]float64{0.005, 0.02}

// haste is evidence that a canary's P95 is below its limit: were it at the limit
// or above, at least latencyTail of the answers would be above. One coin is
// spread over tails.
type haste [len(tails)]float64

// settle plays n answers of which k may be above the limit.
func (h *haste) settle(k, n uint64) {
	for i, t := range tails {
		h[i] += float64(k)*math.Log(t/latencyTail) + float64(n-k)*math.Log((1-t)/(1-latencyTail))
	}
}

func (h *haste) worth() float64 { return mean(h[:]) }

// cleared returns after how many requests of a good canary, in at least nine
// trials of ten, the evidence for it is worth goal (a logarithm). base is the
// error rate of both versions, floor the baseline, share the canary's part of
// all requests.
func cleared(base, floor, share, goal, margin float64) float64 {
	goal += math.Log(float64(len(favor{})))
	// Against the baseline: after n requests of which k failed, and k is what nine
	// of ten trials do not exceed.
	best := math.Inf(1)
	win, lose := survives(floor, margin)
	if win+base*(lose-win) > 0 {
		for k := range 200 {
			n := (goal - float64(k)*lose) / win
			if poissonUpTo(k, n*base) >= 0.9 {
				best = n
				break
			}
		}
	}
	if 0 < share && share < 1 { // compared: per request of the canary, this many failures of the active version
		const z = 1.2816
		win, lose := clears(share, margin)
		rest := base * (1 - share) / share
		if drift := rest*win + base*lose; drift > 0 {
			best = min(best, quantileOf(z*math.Sqrt(rest*win*win+base*lose*lose), drift, goal))
		}
	}
	return best
}

// poissonUpTo returns the chance that a Poisson variable is at most k.
func poissonUpTo(k int, mean float64) float64 {
	term := math.Exp(-mean)
	sum := term
	for i := 1; i <= k; i++ {
		term *= mean / float64(i)
		sum += term
	}
	return sum
}
