package model

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The element types that a weight may have, as safetensors writes them.
const (
	dtypeF32 = "F32"
	dtypeF64 = "F64"
)

// Build makes the evaluator that spec asks for. tensors returns a tensor's
// safetensors element type and its bytes, little-endian, at any alignment; Build
// keeps no slice of them. Errors name the field of the manifest or the tensor.
//
// A weight that is not finite is taken as it is: every Eval of such a version
// is ErrNotFinite, which the judge answers.
func Build(spec EvalSpec, tensors func(name string) (dtype string, data []byte, ok bool)) (Evaluator, error) {
	k, err := spec.plan()
	if err != nil {
		return nil, err
	}
	weights := make([]float64, len(k.weights))
	for i, name := range k.weights {
		tensor := spec.Weights[name]
		dtype, data, ok := tensors(tensor)
		if !ok {
			return nil, fmt.Errorf("model: eval.weights.%s is %q: the version has no tensor of that name", name, tensor)
		}
		if weights[i], err = scalar(dtype, data); err != nil {
			return nil, fmt.Errorf("model: eval.weights.%s: tensor %q: %w", name, tensor, err)
		}
	}
	inputs := make([]Input, len(k.inputs))
	for i, name := range k.inputs {
		inputs[i] = Input{Name: name, Metric: spec.Input[name].Metric}
	}
	return k.build(spec.Version, inputs, weights), nil
}

// scalar reads the one element of a tensor. F32 widens exactly.
func scalar(dtype string, data []byte) (float64, error) {
	size := 8
	switch dtype {
	case dtypeF32:
		size = 4
	case dtypeF64:
	default:
		return 0, fmt.Errorf("its type is %s: store a weight as %s or %s", dtype, dtypeF32, dtypeF64)
	}
	if len(data) != size {
		return 0, fmt.Errorf("it has %d bytes: a weight is one element, %d bytes of %s", len(data), size, dtype)
	}
	if size == 4 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), nil
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(data)), nil
}
