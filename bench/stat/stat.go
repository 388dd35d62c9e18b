// Package stat is the arithmetic of the tables: medians, and intervals of a
// ratio of two things that were measured in turns.
//
// # Concurrency
// Functions without state: safe for concurrent use.
package stat

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Median returns the middle of v, or the mean of the two middle values; 0 of
// nothing.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Interval is a ratio with the bounds that it lies in with 95 % confidence.
type Interval struct {
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// resamples is enough for the third digit of the bounds.
const resamples = 10_000

// Ratio returns the geometric mean of a[i]/b[i], and its interval by
// bootstrapping: the pairs, one a round, are drawn anew with replacement, and the
// middle 95 % of the means that come out are kept. Pairing takes out what slows a
// whole round down. It draws from a fixed seed, so equal input gives equal output.
// Without a pair of values above 0 it is the zero Interval.
func Ratio(a, b []float64) Interval {
	var logs []float64
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			logs = append(logs, math.Log(a[i]/b[i]))
		}
	}
	if len(logs) == 0 {
		return Interval{}
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(logs))))
	means := make([]float64, resamples)
	for i := range means {
		var sum float64
		for range logs {
			sum += logs[rng.IntN(len(logs))]
		}
		means[i] = sum / float64(len(logs))
	}
	slices.Sort(means)
	return Interval{Ratio: math.Exp(mean(logs)), Low: math.Exp(means[resamples*25/1000]), High: math.Exp(means[resamples*975/1000-1])}
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
