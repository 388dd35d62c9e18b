package main

import (
	"slices"
	"testing"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// What a version refuses that the one before it takes is seen as long as both are
// here, and what is blocked and answers all the same.
func TestViewsSayWhatIsNarrowerAndBlocked(t *testing.T) {
	of := func(n uint64, state loader.State, most float64) loader.Status {
		e := &delta.Eval{Input: map[string]delta.Input{"x": {Metric: "raw"}}}
		if most > 0 {
			e.Schema = map[string]delta.Rule{"x": {Type: "number", Required: true, Max: &most}}
		}
		return loader.Status{Info: loader.Info{Model: "score", Number: n, Eval: e}, State: state}
	}
	want := []string{"x: wants at most 10"}
	for name, c := range map[string]struct {
		all  []loader.Status
		of   int
		want []string
	}{
		"a canary":                     {[]loader.Status{of(1, loader.Active, 0), of(2, loader.Canary, 10)}, 1, want},
		"beside a wider one":           {[]loader.Status{of(1, loader.Active, 20), of(2, loader.Canary, 10)}, 1, want},
		"promoted":                     {[]loader.Status{of(1, loader.Standby, 0), of(2, loader.Active, 10)}, 1, want},
		"wider":                        {[]loader.Status{of(1, loader.Active, 10), of(2, loader.Canary, 0)}, 1, nil},
		"the one before":               {[]loader.Status{of(1, loader.Active, 10), of(2, loader.Canary, 0)}, 0, nil},
		"the standby after a way back": {[]loader.Status{of(1, loader.Active, 0), of(2, loader.Standby, 10)}, 0, nil},
	} {
		if got := narrower(c.all, &c.all[c.of]); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	v := console.Version{Expect: "soon", Blocked: "bad elsewhere", Narrower: want}
	if got := v.Why(); got != "soon; blocked, and goes on without a standby: bad elsewhere; refuses inputs that the version before takes: x: wants at most 10" {
		t.Errorf("%q", got)
	}
}
