package trees

import (
	"encoding/binary"
	"math"
	"slices"
)

// Parts are the bytes of a forest's tensors.
type Parts struct {
	Header     []byte // JSON
	Nodes      []byte // NodeSize bytes each
	Roots      []byte // uint32 little-endian, one a tree, in the order of the sum
	Categories []byte // uint32 little-endian: the words of the sets; may be empty
}

// Forest is what Check found out about Parts. It holds no byte of them.
type Forest struct {
	Header

	nodes, roots, categories int   // bytes
	depth                    int   // splits on the longest way
	columns                  uint8 // a bit for each that is read
	wide                     bool  // some set is
}

// Check reads all of p once and reports the first thing that is wrong. After it,
// Eval over the same bytes reads nothing out of range and ends: a child's number
// is above its parent's, and what the forest is made of was counted. Over bytes
// that were changed since, Eval may give any number or panic, but it ends.
func Check(p Parts) (*Forest, error) {
	h, err := parseHeader(p.Header)
	if err != nil {
		return nil, err
	}
	f := &Forest{Header: *h, nodes: len(p.Nodes), roots: len(p.Roots), categories: len(p.Categories)}
	n := uint64(len(p.Nodes)) / NodeSize
	switch {
	case len(p.Nodes)%NodeSize != 0 || n == 0 || n > math.MaxInt32:
		return nil, bad("nodes: %d bytes, want a multiple of %d", len(p.Nodes), NodeSize)
	case len(p.Roots)%4 != 0 || len(p.Roots) == 0 || len(p.Roots)/4 > maxTrees:
		return nil, bad("roots: %d bytes, want 4 a tree for 1 to %d trees", len(p.Roots), maxTrees)
	case len(p.Categories)%4 != 0:
		return nil, bad("categories: %d bytes, want a multiple of 4", len(p.Categories))
	}
	heights := make([]uint16, n)
	for i := uint32(n); i > 0; {
		i--
		if err := f.checkNode(p, i, heights); err != nil {
			return nil, err
		}
	}
	for t := range len(p.Roots) / 4 {
		r := binary.LittleEndian.Uint32(p.Roots[4*t:])
		if uint64(r) >= n {
			return nil, bad("roots[%d] is %d, there are %d nodes", t, r, n)
		}
		f.depth = max(f.depth, int(heights[r]))
	}
	return f, nil
}

// checkNode checks node i, whose children were checked before, and notes how
// high the tree above it is.
func (f *Forest) checkNode(p Parts, i uint32, heights []uint16) error {
	n := nodeAt(p.Nodes, i)
	flags := n.flags()
	if n.rest() != 0 || flags&^flagsKnown != 0 {
		return bad("nodes[%d]: word %#x has bits that this format does not know", i, n.word)
	}
	if flags&flagSplit == 0 {
		if n.left() != i || n.word>>32 != 0 {
			return bad("nodes[%d]: word %#x: a leaf is its own child and has nothing else", i, n.word)
		}
		return nil
	}
	left := n.left()
	if left <= i || uint64(left)+1 >= uint64(len(heights)) {
		return bad("nodes[%d]: its left child is %d: want %d to %d, so that every walk ends", i, left, uint64(i)+1, len(heights)-2)
	}
	if int(n.feature()) >= len(f.Features) {
		return bad("nodes[%d]: feature %d, there are %d", i, n.feature(), len(f.Features))
	}
	if flags&flagCategorical == 0 {
		if flags&flagWide != 0 || n.column() >= columnCategory || math.IsNaN(n.value()) {
			return bad("nodes[%d]: flags %#x, column %d, threshold %v: want a number to compare with", i, flags, n.column(), n.value())
		}
	} else {
		if n.column() != columnCategory {
			return bad("nodes[%d]: column %d: a categorical split reads column %d", i, n.column(), columnCategory)
		}
		if from, words := n.set(); flags&flagWide != 0 && (words == 0 || uint64(from)+uint64(words) > uint64(f.categories/4)) {
			return bad("nodes[%d]: its set is words %d to %d, there are %d", i, from, uint64(from)+uint64(words), f.categories/4)
		}
	}
	f.columns |= 1 << n.column()
	f.wide = f.wide || flags&flagWide != 0
	h := 1 + max(heights[left], heights[left+1])
	if h > maxDepth {
		return bad("nodes[%d]: more than %d splits on one way", i, maxDepth)
	}
	heights[i] = h
	return nil
}

// Trees returns how many trees there are.
func (f *Forest) Trees() int { return f.roots / 4 }

// Depth returns how many splits the longest way has.
func (f *Forest) Depth() int { return f.depth }

// Same reports whether p is as large as what was checked. Eval needs it.
func (f *Forest) Same(p Parts) bool {
	return len(p.Nodes) == f.nodes && len(p.Roots) == f.roots && len(p.Categories) == f.categories
}

// FeatureNames returns what a row holds, in its order.
func (f *Forest) FeatureNames() []string { return slices.Clone(f.Features) }
