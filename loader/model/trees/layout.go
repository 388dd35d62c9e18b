package trees

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Format is the number of the layout, in the header.
const Format = 1

// Bounds of a forest.
const (
	MaxFeatures = 256     // a feature's number is one byte
	maxDepth    = 4096    // splits from a root to a leaf
	maxTrees    = 1 << 20 // far beyond what answers in time
	maxHeader   = 1 << 20 // bytes
	maxName     = 256     // bytes of a feature's name
)

// NodeSize is the size of a node, bytes.
const NodeSize = 16

// A node is NodeSize bytes, little-endian:
//
//	0   8  a split's threshold or a leaf's value, float64; of a categorical split
//	       a bit for each value from 0 to 63 that goes left, or, of a wide one,
//	       4 bytes first word of its set and 4 bytes number of words
//	8   4  number of the left child; the right one follows it. A leaf's own number
//	12  1  flags
//	13  1  number of the feature
//	14  1  column: how the feature is read
//	15  1  zero
const (
	flagSplit       = 1 << 0 // else a leaf
	flagCategorical = 1 << 1 // left when the set has the value
	flagWide        = 1 << 2 // the set is in Categories
	flagsKnown      = 1<<3 - 1
)

// The columns. A missing value becomes what a comparison sends to its side, once a
// row, so that no split asks for it: NaN is at most nothing, -∞ at most everything.
const (
	columnRight     = iota // a missing value goes right
	columnLeft             // left
	columnZeroRight        // 0 is missing too, and goes right
	columnZeroLeft         // left
	columnCategory         // the value as a category
	columns
)

// Transform is what becomes of the sum of the leaves.
type Transform string

// The transforms, by the objectives that use them.
const (
	Identity     Transform = "identity"
	Sigmoid      Transform = "sigmoid"       // 1 / (1 + exp(-scale·sum)): binary, cross_entropy
	Exp          Transform = "exp"           // poisson, gamma, tweedie
	Log1pExp     Transform = "log1p_exp"     // log(1 + exp(sum)): cross_entropy_lambda
	SignedSquare Transform = "signed_square" // sum·|sum|: regression sqrt
)

// Header is what a forest says of itself, as JSON.
type Header struct {
	Format    int       `json:"format"`
	Features  []string  `json:"features"`          // in the order of a row
	Average   bool      `json:"average,omitempty"` // the sum is divided by the number of trees
	Transform Transform `json:"transform"`
	Scale     float64   `json:"scale,omitempty"` // of Sigmoid
}

// ErrLayout is what every error of Check is.
var ErrLayout = errors.New("not a forest")

func bad(format string, args ...any) error {
	return fmt.Errorf("trees: %w: %w", ErrLayout, fmt.Errorf(format, args...))
}

// parseHeader reads a header and refuses what this program does not know.
func parseHeader(text []byte) (*Header, error) {
	if len(text) > maxHeader {
		return nil, bad("the header has %d bytes, at most %d are allowed", len(text), maxHeader)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	h := new(Header)
	if err := dec.Decode(h); err != nil {
		return nil, bad("header: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("header: more text after its end")
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Header) check() error {
	if h.Format != Format {
		return bad("header: format is %d, this program knows %d", h.Format, Format)
	}
	if n := len(h.Features); n > MaxFeatures {
		return bad("header: %d features, at most %d are allowed", n, MaxFeatures)
	}
	for i, f := range h.Features {
		if f == "" || len(f) > maxName || slices.Contains(h.Features[:i], f) {
			return bad("header: features[%d] is %q: want names of 1 to %d bytes, each once", i, f, maxName)
		}
	}
	switch h.Transform {
	case Sigmoid:
		if !(h.Scale > 0) || math.IsInf(h.Scale, 0) { // NaN is not
			return bad("header: scale is %v: a sigmoid needs a number above 0", h.Scale)
		}
	case Identity, Exp, Log1pExp, SignedSquare:
		if h.Scale != 0 {
			return bad("header: scale is %v: only a sigmoid has one", h.Scale)
		}
	default:
		return bad("header: transform is %q: want identity, sigmoid, exp, log1p_exp or signed_square", h.Transform)
	}
	return nil
}

// node is one node's two words.
type node struct {
	bits uint64 // of the threshold, the value, or the set
	word uint64
}

func nodeAt(nodes []byte, i uint32) node {
	b := (*[NodeSize]byte)(nodes[uint64(i)*NodeSize:])
	return node{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

func (n node) value() float64 { return math.Float64frombits(n.bits) }
func (n node) left() uint32   { return uint32(n.word) }
func (n node) flags() uint8   { return uint8(n.word >> 32) }
func (n node) feature() uint8 { return uint8(n.word >> 40) }
func (n node) column() uint8  { return uint8(n.word >> 48) }
func (n node) rest() uint8    { return uint8(n.word >> 56) }
func (n node) set() (from, words uint32) {
	return uint32(n.bits), uint32(n.bits >> 32)
}

func (n node) append(dst []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, n.bits), n.word)
}

func wordOf(left uint32, flags, feature, column uint8) uint64 {
	return uint64(left) | uint64(flags)<<32 | uint64(feature)<<40 | uint64(column)<<48
}
