package lightgbm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// headNames are the members before the first tree.
var headNames = []string{
	"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "feature_names",
	"feature_infos", "tree_sizes", "monotone_constraints", "average_output",
}

// head is what the text says before the first tree.
type head struct {
	features  []string
	trees     int // as counted by tree_sizes; -1: not said
	average   bool
	transform trees.Transform
	scale     float64
}

// parseHead reads the head, whose last line is last.
func parseHead(s section, last int) (h head, err error) {
	for _, name := range []string{"num_class", "num_tree_per_iteration"} {
		if m, ok := s[name]; ok && m.value != "1" {
			return h, m.errf("%s is %s: the answer is one number, so only models with 1 can be used", name, clip(m.value))
		}
	}
	if m, ok := s["version"]; ok && m.value != "v2" && m.value != "v3" && m.value != "v4" {
		return h, m.errf("version is %q: this program reads v2, v3 and v4", clip(m.value))
	}
	names, ok := s["feature_names"]
	if !ok {
		return h, &Error{last, fmt.Errorf("feature_names is missing")}
	}
	h.features = strings.Fields(names.value)
	if m, ok := s["max_feature_idx"]; ok {
		if n, err := strconv.Atoi(m.value); err != nil || n+1 != len(h.features) {
			return h, m.errf("max_feature_idx is %s, feature_names has %d names", clip(m.value), len(h.features))
		}
	}
	h.trees = -1
	if m, ok := s["tree_sizes"]; ok {
		h.trees = len(strings.Fields(m.value))
	}
	_, h.average = s["average_output"]
	h.transform = trees.Identity
	if m, ok := s["objective"]; ok {
		h.transform, h.scale, err = m.objective()
	}
	return h, err
}

func (m member) errf(format string, args ...any) error {
	return &Error{m.line, fmt.Errorf(format, args...)}
}

// objective returns what LightGBM's ConvertOutput does for an objective (its
// src/objective).
func (m member) objective() (t trees.Transform, scale float64, err error) {
	words := strings.Fields(m.value)
	if len(words) == 0 {
		return "", 0, m.errf("objective is empty")
	}
	switch words[0] {
	case "regression", "regression_l1", "fair", "quantile", "mape": // reg_sqrt is the first one's, and the others inherit it
		switch {
		case len(words) == 1:
			return trees.Identity, 0, nil
		case len(words) == 2 && words[1] == "sqrt":
			return trees.SignedSquare, 0, nil
		default:
			return "", 0, m.errf("objective %s: %q is not known", words[0], clip(words[1]))
		}
	case "huber", "lambdarank", "rank_xendcg", "custom":
		return trees.Identity, 0, nil
	case "poisson", "gamma", "tweedie":
		return trees.Exp, 0, nil
	case "cross_entropy", "xentropy":
		return trees.Sigmoid, 1, nil
	case "cross_entropy_lambda", "xentlambda":
		return trees.Log1pExp, 0, nil
	case "binary":
		scale = 1
		for _, w := range words[1:] {
			v, ok := strings.CutPrefix(w, "sigmoid:")
			if !ok {
				return "", 0, m.errf("objective binary: %q is not known", clip(w))
			}
			if scale, err = strconv.ParseFloat(v, 64); err != nil || !(scale > 0) {
				return "", 0, m.errf("objective binary: sigmoid %q: want a number above 0", clip(v))
			}
		}
		return trees.Sigmoid, scale, nil
	default:
		return "", 0, m.errf("objective %q cannot be computed here: want a regression, binary, cross_entropy or ranking one", clip(words[0]))
	}
}
