package model

import "math"

// StatModel computes one number from a T. Implementations are immutable.
type StatModel[T any] interface {
	// Compute returns the number; NaN or an infinity when there is none.
	Compute(T) float64
	// Version says which version computes, for example "score@2".
	Version() string
}

// V1 is what Ratio computes from.
type V1 struct {
	UV float64 // unique visitors
	PV float64 // page views
}

// Ratio is ratio normalization, of V1:
//
//	ratio = 0 if PV == 0, otherwise UV / PV, at most ±math.MaxFloat64
//	score = (Scale · ratio) + Bias
//
// No page views is no traffic: the ratio is 0 whatever UV says, for events of
// one visit may be counted moments apart. The ratio is clamped because it
// speaks of the data; the score is not, because weights that are not finite, or
// so large that the score is not, are the model's fault and must show.
type Ratio struct {
	Scale, Bias float64
	version     string
}

// NewRatio returns the model that calls itself version.
func NewRatio(version string, scale, bias float64) *Ratio {
	return &Ratio{Scale: scale, Bias: bias, version: version}
}

// Compute returns the score of v.
func (m *Ratio) Compute(v V1) float64 {
	ratio := 0.0
	if v.PV != 0 {
		ratio = max(-math.MaxFloat64, min(v.UV/v.PV, math.MaxFloat64))
	}
	return float64(m.Scale*ratio) + m.Bias // the conversion forbids a fused multiply-add, which rounds once instead of twice
}

// Version returns what NewRatio was given.
func (m *Ratio) Version() string { return m.version }

// V2 is what WeightedDifference computes from. Both durations are in the same
// unit, whichever the metrics have.
type V2 struct {
	UVD float64 // duration by unique visitors
	PVD float64 // duration by page views
}

// WeightedDifference is, of V2:
//
//	score = ((WUVD · UVD) − (WPVD · PVD)) + Bias
type WeightedDifference struct {
	WUVD, WPVD, Bias float64
	version          string
}

// NewWeightedDifference returns the model that calls itself version.
func NewWeightedDifference(version string, wuvd, wpvd, bias float64) *WeightedDifference {
	return &WeightedDifference{WUVD: wuvd, WPVD: wpvd, Bias: bias, version: version}
}

// Compute returns the score of v.
func (m *WeightedDifference) Compute(v V2) float64 {
	return float64(float64(m.WUVD*v.UVD)-float64(m.WPVD*v.PVD)) + m.Bias // nothing is fused: see Ratio.Compute
}

// Version returns what NewWeightedDifference was given.
func (m *WeightedDifference) Version() string { return m.version }
