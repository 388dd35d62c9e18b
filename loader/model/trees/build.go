package trees

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
)

// The names that an importer gives the tensors.
const (
	TensorHeader     = "trees.header"
	TensorNodes      = "trees.nodes"
	TensorRoots      = "trees.roots"
	TensorCategories = "trees.categories"
)

// Missing is what a split takes for a missing value.
type Missing uint8

// What is missing.
const (
	MissingNone Missing = iota // nothing: NaN is read as 0
	MissingZero                // 0, and NaN, which is read as 0
	MissingNaN                 // NaN
)

// Split is an inner node of a tree.
type Split struct {
	Feature     int
	Threshold   float64  // left when the value is at most this
	Set         []uint32 // of a categorical split: a bit for each value that goes left; nil: numerical
	Missing     Missing
	DefaultLeft bool // where a missing value goes
	Left, Right int  // a split's number, or ^ a leaf's
}

// Tree is one tree. Its root is split 0, or leaf 0 when it has no split.
type Tree struct {
	Splits []Split
	Leaves []float64
}

// Model is a forest on its way into a file.
type Model struct {
	Header Header
	Trees  []Tree
}

// Parts lays the model flat. The result has passed Check.
func (m *Model) Parts() (Parts, error) {
	h := m.Header
	h.Format = Format
	text, err := json.Marshal(h)
	if err != nil {
		return Parts{}, bad("header: %w", err)
	}
	p := Parts{Header: text}
	for i := range m.Trees {
		p.Roots = binary.LittleEndian.AppendUint32(p.Roots, uint32(len(p.Nodes)/NodeSize))
		if err := p.add(&m.Trees[i]); err != nil {
			return Parts{}, fmt.Errorf("tree %d: %w", i, err)
		}
	}
	_, err = Check(p)
	return p, err
}

// add lays one tree flat, breadth first: children come after their parents, and
// the two of a split side by side.
func (p *Parts) add(t *Tree) error {
	first := 0
	if len(t.Splits) == 0 {
		first = ^0
	}
	queue := []int{first} // splits' numbers, and ^ leaves'
	base := uint32(len(p.Nodes) / NodeSize)
	for at := 0; at < len(queue); at++ {
		if len(queue) > 2*len(t.Splits)+1 {
			return bad("a node has two parents")
		}
		n, self := queue[at], base+uint32(at)
		if n < 0 {
			if ^n >= len(t.Leaves) {
				return bad("leaf %d of %d", ^n, len(t.Leaves))
			}
			p.Nodes = node{math.Float64bits(t.Leaves[^n]), wordOf(self, 0, 0, 0)}.append(p.Nodes)
			continue
		}
		if n >= len(t.Splits) {
			return bad("split %d of %d", n, len(t.Splits))
		}
		s := &t.Splits[n]
		if s.Feature < 0 || s.Feature >= MaxFeatures {
			return bad("split %d: feature %d", n, s.Feature)
		}
		bits, flags, column := p.decision(s)
		p.Nodes = node{bits, wordOf(base+uint32(len(queue)), flags, uint8(s.Feature), column)}.append(p.Nodes)
		queue = append(queue, s.Left, s.Right)
	}
	return nil
}

// decision returns a split's first word, its flags and its column.
func (p *Parts) decision(s *Split) (bits uint64, flags, column uint8) {
	if s.Set != nil {
		set := trimmed(s.Set)
		if len(set) <= 2 {
			for i, w := range set {
				bits |= uint64(w) << (32 * i)
			}
			return bits, flagSplit | flagCategorical, columnCategory
		}
		from := uint64(len(p.Categories) / 4)
		for _, w := range set {
			p.Categories = binary.LittleEndian.AppendUint32(p.Categories, w)
		}
		return from | uint64(len(set))<<32, flagSplit | flagCategorical | flagWide, columnCategory
	}
	left := s.DefaultLeft
	column = columnRight
	switch s.Missing {
	case MissingZero:
		column = columnZeroRight
	case MissingNone:
		left = 0 <= s.Threshold // NaN is read as 0
	case MissingNaN:
	}
	if left {
		column++
	}
	return math.Float64bits(s.Threshold), flagSplit, column
}

// trimmed leaves out the words at the end that hold nothing.
func trimmed(set []uint32) []uint32 {
	for len(set) > 0 && set[len(set)-1] == 0 {
		set = set[:len(set)-1]
	}
	return set
}
