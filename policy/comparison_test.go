package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quadnine/quadnine"
)

func TestComparisonQuantiles(t *testing.T) {
	var c Comparison
	rnd := rand.New(rand.NewPCG(3, 4))
	var absolute, relative []float64
	sum := 0.0
	for i := range 10_000 {
		active := 100 + rnd.Float64()
		shadow := active
		if i%4 != 0 {
			shadow += math.Exp(4*rnd.NormFloat64() - 6)
		}
		d := math.Abs(shadow - active)
		absolute, relative = append(absolute, d), append(relative, d/max(active, shadow))
		sum += shadow - active
		c.Compare("acme", active, shadow)
	}
	slices.Sort(absolute)
	slices.Sort(relative)
	got := c.Look()
	if got.Compared != 10_000 || got.Equal < 2500 || math.Abs(got.Bias-sum/10_000) > 1e-9 {
		t.Errorf("%+v", got)
	}
	for name, s := range map[string]struct {
		got Spread
		all []float64
	}{"absolute": {got.Absolute, absolute}, "relative": {got.Relative, relative}} {
		for q, v := range map[float64]float64{0.5: s.got.P50, 0.9: s.got.P90, 0.99: s.got.P99} {
			want := s.all[int(q*10_000)-1]
			if math.Abs(v/want-1) > 0.125 {
				t.Errorf("%s %v: %v, want %v within an eighth", name, q, v, want)
			}
		}
		if want := s.all[len(s.all)-1]; math.Abs(s.got.Max/want-1) > 1e-9 {
			t.Errorf("%s: max %v, want %v", name, s.got.Max, want)
		}
	}
}

func TestComparisonOfExtremes(t *testing.T) {
	var c Comparison
	for _, p := range [][2]float64{{0, 0}, {math.MaxFloat64, -math.MaxFloat64}, {0, 5e-324}, {-1, 1}, {math.Copysign(0, -1), 0}} {
		c.Compare("t", p[0], p[1])
	}
	got := c.Look()
	if got.Compared != 5 || got.Equal != 2 || got.Relative.Max != 2 || got.Absolute.Max != math.MaxFloat64 {
		t.Errorf("%+v", got)
	}
	c.NotFinite("t")
	c.Failed("t")
	c.Skipped(SkipBusy)
	if got := c.Look(); got.NotFinite != 1 || got.Failed != 1 || got.Compared != 5 || c.Skips(SkipBusy) != 1 || c.Skips(SkipInputs) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestComparisonOfRowsIsOne(t *testing.T) {
	var c Comparison
	c.CompareRows("t", []float64{1, 2, 4}, []float64{1, 3, 2}) // differs by 0, 1 and -2: relative 0, 1/3 and 1/2
	c.CompareRows("t", []float64{5, 6}, []float64{5, 6})
	c.CompareRows("t", []float64{math.MaxFloat64, math.MaxFloat64}, []float64{-math.MaxFloat64, math.MaxFloat64})
	got := c.Look()
	if got.Compared != 3 || got.Equal != 1 || got.Absolute.Max != math.MaxFloat64 || got.Relative.Max != 2 || math.IsInf(got.Bias, 0) {
		t.Errorf("%+v", got)
	}
	for range 1000 { // quotients are rounded up, and three of them, or 657 queries, are more than there is
		c.CompareRows("t", slices.Repeat([]float64{math.MaxFloat64}, 3), slices.Repeat([]float64{-math.MaxFloat64}, 3))
	}
	if bias := c.Look().Bias; math.IsInf(bias, 0) || math.IsNaN(bias) {
		t.Errorf("the bias is %v", bias)
	}
	var one Comparison
	one.CompareRows("t", []float64{1, 2, 4}, []float64{1, 3, 2})
	if got := one.Look(); got.Absolute.Max != 2 || got.Relative.Max != 0.5 || math.Abs(got.Bias- -1.0/3) > 1e-15 {
		t.Errorf("%+v: a query differs by what its worst row does, its bias is the mean of its rows", got)
	}
}

func TestComparisonTenantsAreBounded(t *testing.T) {
	var c Comparison
	const n = 10 * MaxComparedTenants
	for i := range n {
		c.Compare(fmt.Sprint("tenant-", i), 1, 2)
	}
	tenants := c.Tenants()
	if len(tenants) != MaxComparedTenants+1 {
		t.Fatalf("%d tenants are kept", len(tenants))
	}
	sum := uint64(0)
	for _, d := range tenants {
		sum += d.Compared
		if d.Tenant == quadnine.OtherTenant && d.Compared != n-MaxComparedTenants {
			t.Errorf("%s: %d", d.Tenant, d.Compared)
		}
	}
	if sum != n || c.Look().Compared != n {
		t.Errorf("%d of %d are kept", sum, n)
	}
	if allocs := testing.AllocsPerRun(100, func() { c.Compare("tenant-1", 1, 2); c.Skipped(SkipBusy) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
