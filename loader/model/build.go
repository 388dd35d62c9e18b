package model

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
)

// The element types that a weight may have, as safetensors writes them.
const (
	dtypeF32 = "F32"
	dtypeF64 = "F64"
)

// Build makes the evaluator that spec asks for. It keeps no slice of tensors: a
// kind whose bytes are too many to copy looks at them again by spec.Again. Errors
// name the field of the manifest or the tensor.
//
// A weight that is not finite is taken as it is: every Eval of such a version
// is ErrNotFinite, which the judge answers.
func Build(spec EvalSpec, tensors Tensors) (Evaluator, error) {
	k, err := spec.plan()
	if err != nil {
		return nil, err
	}
	b := &builder{spec: &spec, kind: k, tensors: tensors}
	if k.ordered {
		b.take(spec.Order)
	} else {
		b.take(k.inputs)
	}
	return k.build(b)
}

// builder is an evaluator being made.
type builder struct {
	spec    *EvalSpec
	kind    kind
	tensors Tensors
	inputs  []Input
}

// take fills in the inputs, in their order.
func (b *builder) take(names []string) {
	b.inputs = make([]Input, len(names))
	for i, name := range names {
		in := b.spec.Input[name]
		b.inputs[i] = Input{Name: name, Metric: in.Metric, Field: cmp.Or(in.Field, "value")}
		if r, ok := b.spec.Schema[name]; ok {
			b.inputs[i].Rule = &r
		}
	}
}

// tensor returns the tensor of a weight.
func (b *builder) tensor(weight string) (dtype string, data []byte, err error) {
	name := b.spec.Weights[weight]
	dtype, data, ok := b.tensors(name)
	if !ok {
		return "", nil, fmt.Errorf("model: eval.weights.%s is %q: the version has no tensor of that name", weight, name)
	}
	return dtype, data, nil
}

// typed returns the tensor of a weight, which must be of dtype.
func (b *builder) typed(weight, dtype string) ([]byte, error) {
	got, data, err := b.tensor(weight)
	if err == nil && got != dtype {
		err = b.at(weight, fmt.Errorf("its type is %s, want %s", got, dtype))
	}
	return data, err
}

// at names a weight and its tensor before what is wrong with it.
func (b *builder) at(weight string, err error) error {
	return fmt.Errorf("model: eval.weights.%s: tensor %q: %w", weight, b.spec.Weights[weight], err)
}

// scalars reads the kind's weights, of one element each.
func (b *builder) scalars() ([]float64, error) {
	out := make([]float64, len(b.kind.weights))
	for i, weight := range b.kind.weights {
		dtype, data, err := b.tensor(weight)
		if err != nil {
			return nil, err
		}
		if out[i], err = scalar(dtype, data); err != nil {
			return nil, b.at(weight, err)
		}
	}
	return out, nil
}

// scalar reads the one element of a tensor. F32 widens exactly.
func scalar(dtype string, data []byte) (float64, error) {
	width, err := widthOf(dtype)
	if err != nil {
		return 0, err
	}
	if len(data) != width {
		return 0, fmt.Errorf("it has %d bytes: a weight is one element, %d bytes of %s", len(data), width, dtype)
	}
	return floats(width, data)[0], nil
}

// widthOf returns how many bytes an element has.
func widthOf(dtype string) (int, error) {
	switch dtype {
	case dtypeF32:
		return 4, nil
	case dtypeF64:
		return 8, nil
	default:
		return 0, fmt.Errorf("its type is %s: store a weight as %s or %s", dtype, dtypeF32, dtypeF64)
	}
}

// floats reads a tensor's elements, of width bytes each. It copies all of them:
// the caller has looked at how many there are.
func floats(width int, data []byte) []float64 {
	out := make([]float64, len(data)/width)
	for i := range out {
		if width == 4 {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		} else {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
	}
	return out
}
