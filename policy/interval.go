package policy

import "math"

// z95 leaves 2.5 % of a normal distribution above it.
const z95 = 1.959963984540054

// intervalAnswers is how many numbers each of two arms must have for an interval
// around the difference of their means: below, a few of them are all there is.
const intervalAnswers = 5

// Interval is a difference and the bounds that hold it in 95 of 100 experiments,
// for who looks once. Samples are thought independent: callers that ask often
// with similar answers make it too narrow.
type Interval struct{ Value, Low, High float64 }

// Excludes reports whether the interval lies on one side of zero.
func (i Interval) Excludes() bool { return i.Low > 0 || i.High < 0 }

// MeanDifference returns how much higher the mean of b's answers is than a's,
// by Welch's t interval. It reports false while one of them has too few answers.
func MeanDifference(a, b *ArmTally) (Interval, bool) {
	if min(a.Answers, b.Answers) < intervalAnswers {
		return Interval{}, false
	}
	na, nb := float64(a.Answers), float64(b.Answers)
	va, vb := a.Variance/na, b.Variance/nb
	d, half := b.Mean-a.Mean, 0.0
	if v := va + vb; v > 0 {
		freedom := v * v / (va*va/(na-1) + vb*vb/(nb-1)) // Welch-Satterthwaite
		half = student95(freedom) * math.Sqrt(v)
	}
	return Interval{d, d - half, d + half}, true
}

// student95 is the 97.5 % point of Student's t distribution, by the expansion of
// Cornish and Fisher (Abramowitz and Stegun 26.7.5): within 0.5 % from 4 degrees
// of freedom on, which is the least that intervalAnswers leaves.
func student95(freedom float64) float64 {
	const (
		z  = z95
		z2 = z * z
		g1 = z * (z2 + 1) / 4
		g2 = z * ((5*z2+16)*z2 + 3) / 96
		g3 = z * (((3*z2+19)*z2+17)*z2 - 15) / 384
		g4 = z * ((((79*z2+776)*z2+1482)*z2-1920)*z2 - 945) / 92160
	)
	f := 1 / freedom
	return z + f*(g1+f*(g2+f*(g3+f*g4)))
}

// RateDifference returns how much higher b's share of failed requests is than a's,
// by Newcombe's interval from Wilson's scores (Statistics in Medicine 17:873,
// method 10): it is good where failures are few or none. It reports false while
// one of them has no requests.
func RateDifference(a, b *ArmTally) (Interval, bool) {
	if a.Requests == 0 || b.Requests == 0 {
		return Interval{}, false
	}
	pa, pb := a.Rate(), b.Rate()
	la, ua := wilson(pa, float64(a.Requests))
	lb, ub := wilson(pb, float64(b.Requests))
	d := pb - pa
	return Interval{d, d - math.Hypot(pb-lb, ua-pa), d + math.Hypot(ub-pb, pa-la)}, true
}

// wilson returns the bounds of a share p that n draws showed.
func wilson(p, n float64) (low, high float64) {
	const z2 = z95 * z95
	mid := (p + z2/(2*n)) / (1 + z2/n)
	half := z95 / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return max(0, mid-half), min(1, mid+half)
}
