package lightgbm

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// treeNames are the members of a tree. Those that parseTree does not read say how
// it was made, not what it computes.
var treeNames = []string{
	"num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
	"leaf_value", "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count",
	"cat_boundaries", "cat_threshold", "is_linear", "shrinkage",
}

// maxLeaves is LightGBM's own bound of num_leaves.
const maxLeaves = 131072

// The bits of decision_type (LightGBM's include/LightGBM/tree.h).
const (
	kCategoricalMask = 1
	kDefaultLeftMask = 2
	kMissingShift    = 2 // two bits: none, zero, NaN
	kDecisionKnown   = 15
)

// treeText is a tree's members and where it begins.
type treeText struct {
	section

	line int
}

func parseTree(s section, line, features int) (*trees.Tree, error) {
	x := treeText{s, line}
	if m, ok := s["is_linear"]; ok && m.value != "0" {
		return nil, m.errf("is_linear is %s: linear trees cannot be computed here; train with linear_tree=false", clip(m.value))
	}
	count, err := numbers(x, "num_leaves", -1, strconv.Atoi)
	if err != nil {
		return nil, err
	}
	if len(count) != 1 || count[0] < 1 || count[0] > maxLeaves {
		return nil, s["num_leaves"].errf("num_leaves is %q: want 1 to %d", clip(s["num_leaves"].value), maxLeaves)
	}
	leaves := count[0]
	t := new(trees.Tree)
	if t.Leaves, err = numbers(x, "leaf_value", leaves, double); err != nil {
		return nil, err
	}
	if leaves > 1 {
		err = x.splits(t, leaves-1, features)
	}
	return t, err
}

// splits reads the n splits of t.
func (x treeText) splits(t *trees.Tree, n, features int) error {
	feature, err := numbers(x, "split_feature", n, strconv.Atoi)
	if err != nil {
		return err
	}
	threshold, err := numbers(x, "threshold", n, double)
	if err != nil {
		return err
	}
	decision, err := numbers(x, "decision_type", n, strconv.Atoi)
	if err != nil {
		return err
	}
	left, err := numbers(x, "left_child", n, strconv.Atoi)
	if err != nil {
		return err
	}
	right, err := numbers(x, "right_child", n, strconv.Atoi)
	if err != nil {
		return err
	}
	sets, err := x.sets()
	if err != nil {
		return err
	}
	t.Splits = make([]trees.Split, n)
	for i := range t.Splits {
		d := decision[i]
		missing := trees.Missing(d >> kMissingShift & 3)
		if d&^kDecisionKnown != 0 || missing > trees.MissingNaN {
			return x.section["decision_type"].errf("decision_type[%d] is %d: want bits that LightGBM 4 knows", i, d)
		}
		if feature[i] < 0 || feature[i] >= features {
			return x.section["split_feature"].errf("split_feature[%d] is %d, there are %d features", i, feature[i], features)
		}
		s := trees.Split{Feature: feature[i], Threshold: threshold[i], Missing: missing, DefaultLeft: d&kDefaultLeftMask != 0, Left: left[i], Right: right[i]}
		if d&kCategoricalMask != 0 {
			at := int(threshold[i])
			if threshold[i] != math.Trunc(threshold[i]) || at < 0 || at >= len(sets) {
				return x.section["threshold"].errf("threshold[%d] is %v: want the number of a set, there are %d", i, threshold[i], len(sets))
			}
			s.Set, s.Threshold = sets[at], 0
		}
		t.Splits[i] = s
	}
	return x.tree(t)
}

// tree checks that every split but the first and every leaf has one parent, and
// that all of them hang together.
func (x treeText) tree(t *trees.Tree) error {
	splits, leaves := make([]bool, len(t.Splits)), make([]bool, len(t.Leaves))
	splits[0] = true
	seen := func(name string, i, child int) error {
		marks, at := splits, child
		if child < 0 {
			marks, at = leaves, ^child
		}
		if at >= len(marks) || marks[at] {
			return x.section[name].errf("%s[%d] is %d: it is out of range, or has a parent already", name, i, child)
		}
		marks[at] = true
		return nil
	}
	for i, todo := 0, []int{0}; i < len(todo); i++ {
		s := &t.Splits[todo[i]]
		for _, c := range []struct {
			name  string
			child int
		}{{"left_child", s.Left}, {"right_child", s.Right}} {
			if err := seen(c.name, todo[i], c.child); err != nil {
				return err
			}
			if c.child >= 0 {
				todo = append(todo, c.child)
			}
		}
		if i == len(todo)-1 && len(todo) != len(t.Splits) {
			return x.section["left_child"].errf("%d of %d splits cannot be reached from the root", len(t.Splits)-len(todo), len(t.Splits))
		}
	}
	return nil
}

// sets reads the categorical splits' sets of values.
func (x treeText) sets() ([][]uint32, error) {
	m, ok := x.section["num_cat"]
	if !ok || m.value == "0" {
		return nil, nil
	}
	n, err := strconv.Atoi(m.value)
	if err != nil || n < 0 || n > maxLeaves {
		return nil, m.errf("num_cat is %q: want a number below %d", clip(m.value), maxLeaves)
	}
	bounds, err := numbers(x, "cat_boundaries", n+1, strconv.Atoi)
	if err != nil {
		return nil, err
	}
	words, err := numbers(x, "cat_threshold", -1, func(s string) (uint32, error) {
		v, err := strconv.ParseUint(s, 10, 32)
		return uint32(v), err
	})
	if err != nil {
		return nil, err
	}
	sets := make([][]uint32, n)
	for i := range sets {
		from, to := bounds[i], bounds[i+1]
		if from < 0 || to <= from || to > len(words) {
			return nil, x.section["cat_boundaries"].errf("cat_boundaries: set %d is words %d to %d, cat_threshold has %d", i, from, to, len(words))
		}
		sets[i] = words[from:to]
	}
	return sets, nil
}

// double reads a number as LightGBM prints it: 17 digits, inf or nan.
func double(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// numbers reads a member's n numbers, or any number of them for -1.
func numbers[T any](x treeText, name string, n int, parse func(string) (T, error)) ([]T, error) {
	m, ok := x.section[name]
	if !ok {
		return nil, &Error{x.line, fmt.Errorf("%s is missing in the tree that begins here", name)}
	}
	words := strings.Fields(m.value)
	if n >= 0 && len(words) != n {
		return nil, m.errf("%s has %d numbers, want %d", name, len(words), n)
	}
	out := make([]T, len(words))
	for i, w := range words {
		v, err := parse(w)
		if err != nil {
			return nil, m.errf("%s[%d] is %q: want a number", name, i, clip(w))
		}
		out[i] = v
	}
	return out, nil
}
