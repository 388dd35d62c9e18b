package policy

import "math"

// Choice is one of several that callers are spread over.
type Choice struct {
	ID     uint64  // the same as long as the choice is the same, wherever it stands in the list
	Weight float64 // above 0; shares are weights over their sum
}

// Assign returns which of choices a caller falls to. draw is the caller's number,
// from Draw. It allocates nothing and takes about 30 ns a choice.
//
// It is weighted rendezvous hashing: every choice draws the caller from an
// exponential distribution whose rate is its weight, by a hash of the caller and
// the choice's ID, and the earliest wins. The probability of each is its share
// exactly, and what one choice draws does not depend on the others: when one
// weight changes, or one choice comes or goes, only callers from or to that choice
// move, and no more than the shares demand.
func Assign(draw uint64, choices []Choice) int {
	best, first := 0, math.Inf(1)
	for i := range choices {
		h := spread(draw ^ spread(choices[i].ID))
		u := (float64(h>>11) + 0.5) / (1 << 53) // in (0, 1): the logarithm is finite
		if at := -math.Log(u) / choices[i].Weight; at < first {
			best, first = i, at
		}
	}
	return best
}

// spread is splitmix64's finalizer: neighboring numbers become independent ones.
func spread(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
