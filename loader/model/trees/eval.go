package trees

import (
	"encoding/binary"
	"math"
)

// Row is a row's values, in each of the columns. It serves one call at a time.
type Row struct {
	columns [rowSize]float64 // MaxFeatures of each column; a power of two, so that no index is out of range
}

const rowSize = 2048

// Set sets the value of a feature, by its number; NaN is a missing one. What is
// not set is 0.
func (r *Row) Set(feature uint8, v float64) { r.columns[feature] = v }

// nearZero is LightGBM's kZeroThreshold, the float 1e-35f widened: what is not
// further from zero is zero (IsZero of its include/LightGBM/tree.h).
const nearZero = 0x1.a95a5cp-117

// fill makes those of the other columns that the forest reads.
func (f *Forest) fill(row *Row) {
	values := row.columns[:len(f.Features)]
	if f.columns&(1<<columnLeft) != 0 {
		to := row.columns[columnLeft*MaxFeatures:]
		for i, v := range values {
			if math.IsNaN(v) {
				v = math.Inf(-1)
			}
			to[i] = v
		}
	}
	if f.columns&(1<<columnZeroRight|1<<columnZeroLeft) != 0 {
		right, left := row.columns[columnZeroRight*MaxFeatures:], row.columns[columnZeroLeft*MaxFeatures:]
		for i, v := range values {
			right[i], left[i] = v, v
			if math.IsNaN(v) || v >= -nearZero && v <= nearZero {
				right[i], left[i] = math.NaN(), math.Inf(-1)
			}
		}
	}
	if f.columns&(1<<columnCategory) != 0 {
		to := row.columns[columnCategory*MaxFeatures:]
		for i, v := range values {
			category := uint64(noCategory)
			if v > -1 && v < math.MaxInt32 { // LightGBM cuts it to a whole number
				category = uint64(int64(v))
			}
			to[i] = math.Float64frombits(category)
		}
	}
}

// noCategory is in no set.
const noCategory = math.MaxUint32

// Eval returns what the forest says of the row. p must be the bytes that were
// checked, see Check.
func (f *Forest) Eval(p Parts, row *Row) (sum float64) {
	f.fill(row)
	switch {
	case f.wide:
		sum = f.sumWide(p, row)
	case f.columns&(1<<columnCategory) != 0:
		sum = f.sumCategorical(p, row)
	default:
		sum = f.sumNumerical(p, row)
	}
	if f.Average {
		sum /= float64(f.roots / 4)
	}
	switch f.Transform {
	case Sigmoid:
		return 1 / (1 + math.Exp(-f.Scale*sum))
	case Exp:
		return math.Exp(sum)
	case Log1pExp:
		return math.Log1p(math.Exp(sum))
	case SignedSquare:
		return math.Copysign(sum*sum, sum)
	default:
		return sum
	}
}

// step goes from node i to its child, or stays on a leaf. It has no branch: the
// comparison becomes a number. (A slice with all three indexes costs the compiler
// one check and no arithmetic on the pointer.)
func step(nodes []byte, row *Row, i uint32) (next, split uint32) {
	at := uint64(i) * NodeSize
	b := nodes[at : at+NodeSize : at+NodeSize]
	word := binary.LittleEndian.Uint64(b[8:])
	var right uint32
	if !(row.columns[word>>40%rowSize] <= math.Float64frombits(binary.LittleEndian.Uint64(b))) {
		right = 1
	}
	split = uint32(word>>32) & flagSplit
	return uint32(word) + right&split, split
}

// stepAny is step for categorical splits, too, unless they are wide.
func stepAny(nodes []byte, row *Row, i uint32) (next, split uint32) {
	at := uint64(i) * NodeSize
	b := nodes[at : at+NodeSize : at+NodeSize]
	bits, word := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	v := row.columns[word>>40%rowSize]
	var right uint32
	if !(v <= math.Float64frombits(bits)) {
		right = 1
	}
	flags := uint32(word >> 32)
	lacks := uint32(bits>>math.Float64bits(v)) ^ 1
	right ^= (right ^ lacks) & (flags >> 1)
	split = flags & flagSplit
	return uint32(word) + right&split, split
}

// stepWide is stepAny for wide sets, too.
func stepWide(p *Parts, row *Row, i uint32) (next, split uint32) {
	n := nodeAt(p.Nodes, i)
	if n.flags()&flagWide == 0 {
		return stepAny(p.Nodes, row, i)
	}
	from, words := n.set()
	category := math.Float64bits(row.columns[n.word>>40%rowSize])
	if category/32 >= uint64(words) {
		return n.left() + 1, flagSplit
	}
	word := binary.LittleEndian.Uint32(p.Categories[4*(uint64(from)+category/32):])
	return n.left() + ^(word>>(category%32))&1, flagSplit
}

// lanes is how many trees are walked at once, so that the processor waits for
// their loads together: as many as it has registers for.
const lanes = 8

// start returns the roots of the next trees and how many they are. Lanes without a
// tree walk the first one's, which costs no further step.
func start(roots []byte, pad *[4 * lanes]byte) (at []byte, n int) {
	if len(roots) >= len(pad) {
		return roots[:len(pad):len(pad)], lanes
	}
	for i := copy(pad[:], roots); i < len(pad); i += 4 {
		copy(pad[i:], roots[:4])
	}
	return pad[:], len(roots) / 4
}

func rootAt(at []byte, lane int) uint32 { return binary.LittleEndian.Uint32(at[4*lane:]) }

func leafAt(nodes []byte, i uint32) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(nodes[uint64(i)*NodeSize:]))
}

func (f *Forest) sumNumerical(p Parts, row *Row) (sum float64) {
	nodes := p.Nodes
	var pad [4 * lanes]byte
	for roots := p.Roots; len(roots) >= 4; {
		at, n := start(roots, &pad)
		a, b, c, d := rootAt(at, 0), rootAt(at, 1), rootAt(at, 2), rootAt(at, 3)
		e, g, h, i := rootAt(at, 4), rootAt(at, 5), rootAt(at, 6), rootAt(at, 7)
		for range f.depth {
			var s, splits uint32
			a, splits = step(nodes, row, a)
			b, s = step(nodes, row, b)
			splits |= s
			c, s = step(nodes, row, c)
			splits |= s
			d, s = step(nodes, row, d)
			splits |= s
			e, s = step(nodes, row, e)
			splits |= s
			g, s = step(nodes, row, g)
			splits |= s
			h, s = step(nodes, row, h)
			splits |= s
			i, s = step(nodes, row, i)
			if splits|s == 0 {
				break
			}
		}
		leaves := [lanes]uint32{a, b, c, d, e, g, h, i}
		for _, leaf := range leaves[:n] {
			sum += leafAt(nodes, leaf)
		}
		roots = roots[4*n:]
	}
	return sum
}

// sumCategorical is sumNumerical where some splits are categorical.
func (f *Forest) sumCategorical(p Parts, row *Row) (sum float64) {
	var pad [4 * lanes]byte
	for roots := p.Roots; len(roots) >= 4; {
		first, n := start(roots, &pad)
		var at [lanes]uint32
		for lane := range at {
			at[lane] = rootAt(first, lane)
		}
		for range f.depth {
			var splits uint32
			for lane, i := range at {
				next, s := stepAny(p.Nodes, row, i)
				at[lane] = next
				splits |= s
			}
			if splits == 0 {
				break
			}
		}
		for _, leaf := range at[:n] {
			sum += leafAt(p.Nodes, leaf)
		}
		roots = roots[4*n:]
	}
	return sum
}

// sumWide adds trees one by one.
func (f *Forest) sumWide(p Parts, row *Row) (sum float64) {
	for roots := p.Roots; len(roots) >= 4; roots = roots[4:] {
		i := binary.LittleEndian.Uint32(roots)
		for range f.depth {
			var split uint32
			if i, split = stepWide(&p, row, i); split == 0 {
				break
			}
		}
		sum += leafAt(p.Nodes, i)
	}
	return sum
}
