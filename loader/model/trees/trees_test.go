package trees

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// mixed is a forest with splits of every kind: sets of one word, of many and
// empty ones, all that may be missing, more trees than are walked at once, and one
// that is a leaf.
func mixed(trees int) *Model {
	r := rand.New(rand.NewPCG(1, uint64(trees)))
	m := &Model{Header: Header{Features: []string{"a", "b", "c", "d"}, Transform: Identity}}
	for t := range trees {
		n := t % 9 // splits
		x := Tree{Leaves: make([]float64, n+1)}
		for i := range x.Leaves {
			x.Leaves[i] = r.NormFloat64()
		}
		parents := []*int{nil}
		x.Splits = make([]Split, n)
		for i := range n {
			s := &x.Splits[i]
			leaf := r.IntN(i + 1)
			if parents[leaf] != nil {
				*parents[leaf] = i
			}
			*s = Split{Feature: r.IntN(4), Threshold: math.Round(r.NormFloat64() * 3), Missing: Missing(r.IntN(3)), DefaultLeft: r.IntN(2) == 0, Left: ^leaf, Right: ^(i + 1)}
			switch r.IntN(6) {
			case 0:
				s.Set = []uint32{r.Uint32()}
			case 1:
				s.Set = []uint32{r.Uint32(), 0, 0, r.Uint32() | 1}
			case 2:
				s.Set = []uint32{0}
			}
			parents[leaf] = &s.Left
			parents = append(parents, &s.Right)
		}
		m.Trees = append(m.Trees, x)
	}
	return m
}

// eval is what LightGBM's code does with one tree, line by line.
func (t *Tree) eval(x []float64) float64 {
	at := 0
	if len(t.Splits) == 0 {
		at = ^0
	}
	for at >= 0 {
		s := &t.Splits[at]
		v, left := x[s.Feature], false
		switch {
		case s.Set != nil:
			if c := int(v); !math.IsNaN(v) && v < 1e9 && c >= 0 && c/32 < len(s.Set) {
				left = s.Set[c/32]>>(c%32)&1 != 0
			}
		default:
			if math.IsNaN(v) && s.Missing != MissingNaN {
				v = 0
			}
			if s.Missing == MissingZero && math.Abs(v) <= float64(float32(1e-35)) || s.Missing == MissingNaN && math.IsNaN(v) {
				left = s.DefaultLeft
			} else {
				left = v <= s.Threshold
			}
		}
		if at = s.Right; left {
			at = s.Left
		}
	}
	return t.Leaves[^at]
}

var odd = []float64{math.NaN(), 0, math.Copysign(0, -1), 1e-36, -1e-36, 1.00000001e-35, -1.00000001e-35, -float64(float32(1e-35)), 2e-35, -1, -0.5, 0.5, 1, 31, 32, 63, 64, 96, 127.9, 128, 1e9, 3e9, 1e300, math.Inf(1), math.Inf(-1)}

// TestEvalIsTheTrees: flat trees say what the tree as it was given says, for odd
// values too, in the order of the trees.
func TestEvalIsTheTrees(t *testing.T) {
	for trees := range 24 {
		m := mixed(trees + 1)
		if trees%4 == 0 { // numbers only: another walk
			for i := range m.Trees {
				for j := range m.Trees[i].Splits {
					m.Trees[i].Splits[j].Set = nil
				}
			}
		}
		if trees%4 == 1 { // no wide set: another one
			for i := range m.Trees {
				for j := range m.Trees[i].Splits {
					if s := &m.Trees[i].Splits[j]; len(s.Set) > 2 {
						s.Set = s.Set[:1]
					}
				}
			}
		}
		p, err := m.Parts()
		if err != nil {
			t.Fatal(err)
		}
		f, err := Check(p)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(2, 3))
		var row Row
		for range 500 {
			x := make([]float64, 4)
			for i := range x {
				if x[i] = odd[r.IntN(len(odd))]; r.IntN(2) == 0 {
					x[i] = r.NormFloat64() * 3
				}
				row.Set(uint8(i), x[i])
			}
			want := 0.0
			for i := range m.Trees {
				want += m.Trees[i].eval(x)
			}
			if got := f.Eval(p, &row); math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%d trees, %v: %v, want %v", trees+1, x, got, want)
			}
		}
	}
}

func TestTransforms(t *testing.T) {
	for transform, want := range map[Transform]float64{
		Identity: -3, Sigmoid: 1 / (1 + math.Exp(6)), Exp: math.Exp(-3), Log1pExp: math.Log1p(math.Exp(-3)), SignedSquare: -9,
	} {
		m := Model{Header: Header{Transform: transform}, Trees: []Tree{{Leaves: []float64{-1}}, {Leaves: []float64{-2}}}}
		if transform == Sigmoid {
			m.Header.Scale = 2
		}
		p, err := m.Parts()
		if err != nil {
			t.Fatal(err)
		}
		f, err := Check(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Eval(p, new(Row)); got != want {
			t.Errorf("%s: %v, want %v", transform, got, want)
		}
		f.Average = true
		if f.Transform == Identity && f.Eval(p, new(Row)) != -1.5 {
			t.Errorf("average: %v", f.Eval(p, new(Row)))
		}
	}
}

// Each change of a good forest is refused.
func TestCheckRefuses(t *testing.T) {
	m := mixed(9)
	put := func(n, at int, v ...byte) func(*Parts) {
		return func(p *Parts) { copy(p.Nodes[n*NodeSize+at:], v) }
	}
	good, err := m.Parts()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Check(good)
	if err != nil {
		t.Fatal(err)
	}
	find := func(is func(node) bool) int {
		for i := range len(good.Nodes) / NodeSize {
			if is(nodeAt(good.Nodes, uint32(i))) {
				return i
			}
		}
		t.Fatal("no such node")
		return 0
	}
	leaf := find(func(n node) bool { return n.flags() == 0 })
	split := find(func(n node) bool { return n.flags() == flagSplit })
	set := find(func(n node) bool { return n.flags() == flagSplit|flagCategorical })
	wide := find(func(n node) bool { return n.flags()&flagWide != 0 })
	for want, change := range map[string]func(*Parts){
		"header: format is 2":                          func(p *Parts) { p.Header = []byte(`{"format":2,"transform":"identity"}`) },
		"header: unexpected EOF":                       func(p *Parts) { p.Header = p.Header[:20] },
		"more text after its end":                      func(p *Parts) { p.Header = append(slices.Clone(p.Header), '{') },
		`unknown field "depth"`:                        func(p *Parts) { p.Header = []byte(`{"format":1,"depth":2}`) },
		"features[1] is \"a\"":                         func(p *Parts) { p.Header = []byte(`{"format":1,"features":["a","a"],"transform":"identity"}`) },
		`transform is ""`:                              func(p *Parts) { p.Header = []byte(`{"format":1}`) },
		"scale is 0: a sigmoid":                        func(p *Parts) { p.Header = []byte(`{"format":1,"transform":"sigmoid"}`) },
		"scale is 2: only":                             func(p *Parts) { p.Header = []byte(`{"format":1,"transform":"exp","scale":2}`) },
		"nodes: 0 bytes":                               func(p *Parts) { p.Nodes = nil },
		"nodes: 17 bytes":                              func(p *Parts) { p.Nodes = p.Nodes[:17] },
		"roots: 0 bytes":                               func(p *Parts) { p.Roots = nil },
		"categories: 3 bytes":                          func(p *Parts) { p.Categories = p.Categories[:3] },
		"roots[0] is 4294967295":                       func(p *Parts) { p.Roots = binary.LittleEndian.AppendUint32(nil, math.MaxUint32) },
		"a leaf is its own child":                      put(leaf, 8, 0xff),
		"has bits that this format does not know":      put(split, 12, 0x81),
		"bits that this format does not know":          put(split, 15, 1),
		"feature 4, there are 4":                       put(split, 13, 4),
		"so that every walk ends":                      put(split, 8, byte(split), byte(split>>8), 0, 0),
		"column 5":                                     put(split, 14, 5),
		"column 0: a categorical split reads column 4": put(set, 14, 0),
		"threshold NaN: want a number":                 put(split, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f),
		"its set is words":                             put(wide, 4, 0xff, 0xff, 0xff),
		"column 4, threshold":                          put(split, 14, 4),
		"flags 0x5":                                    put(split, 12, flagSplit|flagWide),
	} {
		p := good
		p.Nodes = slices.Clone(good.Nodes)
		change(&p)
		if _, err := Check(p); !errors.Is(err, ErrLayout) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if !f.Same(good) || f.Same(Parts{}) {
		t.Error("Same does not compare")
	}
}

// A tree that is no tree is not laid flat.
func TestPartsRefuses(t *testing.T) {
	for i, x := range []Tree{
		{},
		{Splits: []Split{{Left: 0, Right: ^0}}, Leaves: []float64{1}},
		{Splits: []Split{{Left: ^0, Right: 7}}, Leaves: []float64{1}},
		{Splits: []Split{{Left: ^0, Right: ^9}}, Leaves: []float64{1}},
		{Splits: []Split{{Feature: -1, Left: ^0, Right: ^1}}, Leaves: []float64{1, 2}},
		{Splits: []Split{{Feature: 1, Left: ^0, Right: ^1}}, Leaves: []float64{1, 2}},
	} {
		m := Model{Header: Header{Features: []string{"a"}, Transform: Identity}, Trees: []Tree{x}}
		if _, err := m.Parts(); !errors.Is(err, ErrLayout) {
			t.Errorf("tree %d: %v", i, err)
		}
	}
}

func TestEvalAllocs(t *testing.T) {
	p, err := mixed(20).Parts()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Check(p)
	if err != nil {
		t.Fatal(err)
	}
	row := new(Row)
	if n := testing.AllocsPerRun(100, func() { f.Eval(p, row) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCheck: any bytes are refused, or can be evaluated without reading out of
// range and without end.
func FuzzCheck(f *testing.F) {
	for _, n := range []int{1, 4, 9} {
		p, err := mixed(n).Parts()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Header, p.Nodes, p.Roots, p.Categories, uint64(n))
	}
	f.Fuzz(func(t *testing.T, header, nodes, roots, categories []byte, seed uint64) {
		p := Parts{header, nodes, roots, categories}
		forest, err := Check(p)
		if err != nil {
			if !errors.Is(err, ErrLayout) {
				t.Fatalf("%v is no ErrLayout", err)
			}
			return
		}
		if !forest.Same(p) || forest.Depth() > len(nodes)/NodeSize {
			t.Fatalf("depth %d of %d nodes", forest.Depth(), len(nodes)/NodeSize)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		var row Row
		for range 4 {
			for i := range forest.FeatureNames() {
				row.Set(uint8(i), odd[r.IntN(len(odd))])
			}
			forest.Eval(p, &row)
		}
	})
}
