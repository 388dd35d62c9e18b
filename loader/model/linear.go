package model

import "fmt"

// Linear is, of a row x in the order of its weights:
//
//	score = (((W0·x0) + W1·x1) + … ) + Bias
type Linear struct {
	Weights []float64
	Bias    float64
	version string
}

// NewLinear returns the model that calls itself version. It keeps weights.
func NewLinear(version string, weights []float64, bias float64) *Linear {
	return &Linear{Weights: weights, Bias: bias, version: version}
}

// Compute returns the score of x, which has as many numbers as there are weights.
func (m *Linear) Compute(x []float64) float64 {
	sum := 0.0
	for i, w := range m.Weights[:len(x)] {
		sum += float64(w * x[i]) // nothing is fused: see Ratio.Compute
	}
	return sum + m.Bias
}

// Version returns what NewLinear was given.
func (m *Linear) Version() string { return m.version }

func buildLinear(b *builder) (Evaluator, error) {
	dtype, data, err := b.tensor("weights")
	if err != nil {
		return nil, err
	}
	width, err := widthOf(dtype)
	if err == nil && len(data) != width*len(b.inputs) {
		err = fmt.Errorf("it has %d elements, eval.order has %d inputs", len(data)/width, len(b.inputs))
	}
	if err != nil {
		return nil, b.at("weights", err)
	}
	weights := floats(width, data)
	if dtype, data, err = b.tensor("bias"); err != nil {
		return nil, err
	}
	bias, err := scalar(dtype, data)
	if err != nil {
		return nil, b.at("bias", err)
	}
	return Adapt(NewLinear(b.spec.Version, weights, bias), b.inputs, func(v []float64) []float64 { return v }), nil
}
