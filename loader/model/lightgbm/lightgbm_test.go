package lightgbm

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// cases is what LightGBM predicted; testdata/gen.py wrote it.
type cases struct {
	Features []string
	Rows     [][]*float64 // nil is NaN
	Cases    map[string]struct {
		Used []string
		Want []string // hexadecimal
	}
}

func readCases(t *testing.T) (c cases) {
	t.Helper()
	b, err := os.ReadFile("testdata/cases.json")
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load parses a model of testdata and lays it flat.
func load(t testing.TB, name string) (trees.Parts, *trees.Forest) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Parts()
	if err != nil {
		t.Fatal(err)
	}
	forest, err := trees.Check(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, forest
}

// TestPredictions holds every kind of model to what LightGBM itself predicted:
// sums to the last bit, what goes through exp or log to 4 units in the last
// place, for the C library's are not Go's.
func TestPredictions(t *testing.T) {
	all := readCases(t)
	for name, c := range all.Cases {
		parts, f := load(t, name)
		if !slices.Equal(f.FeatureNames(), c.Used) && len(c.Used) > 0 {
			t.Errorf("%s: features %v, LightGBM used %v", name, f.FeatureNames(), c.Used)
		}
		exact := f.Transform == trees.Identity || f.Transform == trees.SignedSquare
		differ := 0
		for i, r := range all.Rows {
			var row trees.Row
			for j, feature := range f.FeatureNames() {
				row.Set(uint8(j), math.NaN())
				if v := r[slices.Index(all.Features, feature)]; v != nil {
					row.Set(uint8(j), *v)
				}
			}
			want, err := strconv.ParseFloat(c.Want[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			got := f.Eval(parts, &row)
			ulps := math.Abs(float64(int64(math.Float64bits(got)) - int64(math.Float64bits(want))))
			if exact && ulps != 0 || ulps > 4 {
				if differ++; differ <= 3 {
					t.Errorf("%s, row %d: %v, LightGBM says %v (%v units apart)", name, i, got, want, ulps)
				}
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d of %d rows differ", name, differ, len(all.Rows))
		}
	}
	if len(all.Cases) < 10 || len(all.Rows) < 400 {
		t.Errorf("%d models, %d rows", len(all.Cases), len(all.Rows))
	}
}

func TestRefusalsNameTheLine(t *testing.T) {
	text, err := os.ReadFile("testdata/binary.txt")
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	swap := func(old, fresh string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the model", old)
		}
		return strings.Replace(good, old, fresh, 1)
	}
	before, _, _ := strings.Cut(good, "end of trees")
	lines := strings.Split(good, "\n")
	line := func(prefix string) (string, int) {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
		return lines[i], i + 1
	}
	at := func(prefix string) int { _, n := line(prefix); return n }
	replace := func(prefix, with string) string { l, _ := line(prefix); return swap(l, with) }
	for _, c := range []struct {
		text string
		line int
		says string
	}{
		{"", 1, `not "tree"`},
		{swap("num_class=1", "num_class=3"), at("num_class"), "num_class is 3"},
		{swap("num_tree_per_iteration=1", "num_tree_per_iteration=3"), at("num_tree_per"), "num_tree_per_iteration is 3"},
		{swap("version=v4", "version=v9"), at("version"), `version is "v9"`},
		{swap("objective=binary sigmoid:0.7", "objective=multiclass num_class:3"), at("objective"), "multiclass"},
		{swap("sigmoid:0.7", "sigmoid:-1"), at("objective"), "sigmoid"},
		{swap("is_linear=0", "is_linear=1"), at("is_linear"), "linear trees"},
		{swap("shrinkage=1", "shrinkage=1\nleaf_const=1"), at("shrinkage") + 1, `"leaf_const" is not known`},
		{swap("max_feature_idx=5", "max_feature_idx=9"), at("max_feature_idx"), "max_feature_idx is 9"},
		{swap("Tree=1", "Tree=7"), at("Tree=1"), `want "Tree=1"`},
		{swap("num_leaves=12", "num_leaves=13"), at("leaf_value"), "leaf_value has 12 numbers, want 13"},
		{swap("num_leaves=12", "num_leaves=0"), at("num_leaves"), "want 1 to"},
		{replace("left_child", "left_child=0 0 0 0 0 0 0 0 0 0 0"), at("left_child"), "has a parent already"},
		{replace("right_child", "right_child=-1 -2 -3 -4 -5 -6 -7 -8 -9 -10 -99"), 0, "out of range"},
		{replace("split_feature", "split_feature=9 0 0 0 0 0 0 0 0 0 0"), at("split_feature"), "split_feature[0] is 9"},
		{replace("decision_type", "decision_type=99 0 0 0 0 0 0 0 0 0 0"), at("decision_type"), "decision_type[0] is 99"},
		{replace("threshold", "threshold=x 0 0 0 0 0 0 0 0 0 0"), at("threshold"), `threshold[0] is "x"`},
		{replace("cat_boundaries", "cat_boundaries=0 99"), at("cat_boundaries"), ""},
		{replace("tree_sizes", "tree_sizes=1 2"), at("end of trees"), "tree_sizes counts 2"},
		{good[:len(good)/3], 0, ""},
		{strings.TrimSuffix(before, "\n"), 0, "cut off"},
	} {
		m, err := Parse(strings.NewReader(c.text))
		e, ok := errors.AsType[*Error](err)
		if !ok || m != nil && err == nil || c.line != 0 && e.Line != c.line || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v\nwant line %d: …%s…", err, c.line, c.says)
		}
	}
}

// The objectives that LightGBM derives from its first one inherit reg_sqrt.
func TestSqrtIsInherited(t *testing.T) {
	text, err := os.ReadFile("testdata/sqrt.txt")
	if err != nil {
		t.Fatal(err)
	}
	for objective, want := range map[string]trees.Transform{
		"regression sqrt": trees.SignedSquare, "regression_l1 sqrt": trees.SignedSquare, "quantile sqrt": trees.SignedSquare,
		"regression_l1": trees.Identity, "huber": trees.Identity, "mape root": "",
	} {
		m, err := Parse(strings.NewReader(strings.Replace(string(text), "objective=regression sqrt", "objective="+objective, 1)))
		switch {
		case want == "":
			if err == nil || !strings.Contains(err.Error(), `objective mape: "root" is not known`) {
				t.Errorf("%s: %v", objective, err)
			}
		case err != nil:
			t.Errorf("%s: %v", objective, err)
		case m.Header.Transform != want:
			t.Errorf("%s: %s, want %s", objective, m.Header.Transform, want)
		}
	}
}

// FuzzParse: any text gives a model that can be laid flat and evaluated, or an
// error with a line.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"stump", "binary", "zero_missing"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			f.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(b), "Tree=1") // one tree is enough
		if rest != "" {
			head += "end of trees\n"
		}
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(strings.NewReader(text))
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Line < 1 {
				t.Fatalf("%v has no line", err)
			}
			return
		}
		p, err := m.Parts()
		if err != nil {
			return // thresholds that are NaN, features without a name
		}
		forest, err := trees.Check(p)
		if err != nil {
			t.Fatal(err)
		}
		var row trees.Row
		for i := range forest.FeatureNames() {
			row.Set(uint8(i), float64(i)-3)
		}
		forest.Eval(p, &row)
		row.Set(0, math.NaN())
		forest.Eval(p, &row)
	})
}
