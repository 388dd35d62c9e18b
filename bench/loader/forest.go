package loader

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The forest that evaluators are compared on: what a fine-tuned ranking or
// scoring model has, as in loader.md.
const (
	forestTrees    = 100
	forestLeaves   = 32
	forestFeatures = 20
)

// forestText is a seeded model as LightGBM writes it. Trees grow leaf by leaf, a
// random one each time, so that their ways differ in length as LightGBM's do.
// categorical makes every fourth split one by a set of values.
func forestText(missing, categorical bool) []byte {
	r := rand.New(rand.NewPCG(100, 32))
	var all bytes.Buffer
	sizes := make([]string, forestTrees)
	for t := range sizes {
		var b bytes.Buffer
		growTree(&b, r, t, missing, categorical)
		sizes[t] = strconv.Itoa(b.Len())
		all.Write(b.Bytes())
	}
	names := make([]string, forestFeatures)
	infos := make([]string, forestFeatures)
	for i := range names {
		names[i], infos[i] = fmt.Sprint("f", i), "[-4:4]"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree\nversion=v3\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=%d\nobjective=regression\nfeature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n",
		forestFeatures-1, strings.Join(names, " "), strings.Join(infos, " "), strings.Join(sizes, " "))
	b.Write(all.Bytes())
	b.WriteString("end of trees\n")
	return b.Bytes()
}

// growTree writes tree number t.
func growTree(b *bytes.Buffer, r *rand.Rand, t int, missing, categorical bool) {
	n := forestLeaves - 1
	left, right := make([]int, n), make([]int, n)
	parent := make([]*int, forestLeaves) // where a leaf hangs
	for i := range n {
		leaf := 0
		if i > 0 {
			leaf = r.IntN(i + 1)
			*parent[leaf] = i
		}
		left[i], right[i] = ^leaf, ^(i + 1)
		parent[leaf], parent[i+1] = &left[i], &right[i]
	}
	features, thresholds, decisions, values := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n), make([]string, 0, n+1)
	bounds, words := []string{"0"}, []string{}
	for i := range n {
		f, d := r.IntN(forestFeatures), 2 // default left
		threshold := fmt.Sprintf("%.17g", r.NormFloat64())
		switch {
		case categorical && i%4 == 3:
			f, d, threshold = f%2, 1, strconv.Itoa(len(words))
			words = append(words, strconv.FormatUint(uint64(r.Uint32()), 10))
			bounds = append(bounds, strconv.Itoa(len(words)))
		case missing:
			d |= 2 << 2 // NaN
		}
		features, thresholds, decisions = append(features, strconv.Itoa(f)), append(thresholds, threshold), append(decisions, strconv.Itoa(d))
	}
	for range forestLeaves {
		values = append(values, fmt.Sprintf("%.17g", r.NormFloat64()/10))
	}
	list := func(name string, v []string) { fmt.Fprintf(b, "%s=%s\n", name, strings.Join(v, " ")) }
	ints := func(name string, v []int) { list(name, strings.Fields(strings.Trim(fmt.Sprint(v), "[]"))) }
	fmt.Fprintf(b, "Tree=%d\nnum_leaves=%d\nnum_cat=%d\n", t, forestLeaves, len(words))
	list("split_feature", features)
	list("threshold", thresholds)
	list("decision_type", decisions)
	ints("left_child", left)
	ints("right_child", right)
	list("leaf_value", values)
	if len(words) > 0 {
		list("cat_boundaries", bounds)
		list("cat_threshold", words)
	}
	b.WriteString("shrinkage=1\n\n\n")
}

// forestRow fills x with one row; two features hold categories.
func forestRow(r *rand.Rand, x []float64) {
	for i := range x {
		x[i] = r.NormFloat64()
	}
	x[0], x[1] = float64(r.IntN(32)), float64(r.IntN(32))
}
