package policy

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/quadnine/quadnine"
)

// MaxComparedTenants bounds for how many tenants a Comparison keeps figures of
// their own; the others share those of quadnine.OtherTenant.
const MaxComparedTenants = 64

// Skip is why a query was not computed by a version in shadow.
type Skip uint8

// The reasons.
const (
	SkipBusy   Skip = iota // too many others wait to be computed
	SkipInputs             // the answer was computed without an input that the shadow wants
	SkipGone               // the shadow was taken out of use meanwhile
	numSkips
)

var skipNames = [numSkips]string{"busy", "inputs", "gone"}

// String returns the reason as it stands in metrics and on admin pages.
func (s Skip) String() string { return name(skipNames[:], int(s)) }

// Comparison is how the answers of a version in shadow differ from those that
// were given. The zero Comparison is ready; it must not be copied.
//
// It is safe for concurrent use. Skipped takes no lock; the others take one, for
// a few stores: they are for the goroutine that computes the shadow's answers and
// for admin pages.
type Comparison struct {
	skipped [numSkips]atomic.Uint64

	mu      sync.Mutex
	all     differences             // guarded by mu
	tenants map[string]*differences // guarded by mu
}

// Differences is what a Comparison saw, of all tenants or of one.
type Differences struct {
	Tenant    string  // "" for all
	Compared  uint64  // queries of which both numbers are known
	Equal     uint64  // of Compared, to the last bit
	NotFinite uint64  // the shadow gave NaN or an infinity
	Failed    uint64  // the shadow's evaluation failed
	Bias      float64 // mean of shadow minus active
	// Absolute is |shadow − active|, Relative that over the larger of the two
	// magnitudes: 0 when they are equal, up to 2 where the signs differ.
	Absolute, Relative Spread
}

// Spread describes a distribution of magnitudes. Quantiles are known to 12.5 %,
// the maximum exactly.
type Spread struct{ P50, P90, P99, Max float64 }

// A magnitude's bin is an eighth of a power of two, so a quantile is known to
// 12.5 %. Bins reach from 2^-64 to 2^64; what is past an end is in the last.
const (
	binShift = 52 - 3
	lowBin   = (1023 - 64) << 3
	numBins  = 128 << 3
)

// differences is what is kept for one Differences: 16 KiB.
type differences struct {
	compared, equal, notFinite, failed uint64
	bias                               float64
	maxAbsolute, maxRelative           float64
	absolute, relative                 [numBins]uint64
}

// Compare notes the number that a query was answered with and the shadow's.
// Both are finite.
func (c *Comparison) Compare(tenant string, active, shadow float64) {
	var g gap
	g.add(active, shadow, 1)
	c.each(tenant, func(d *differences) { d.note(&g) })
}

// CompareRows notes a query of several rows, one or more, as one: it is equal when
// all are, and differs by as much as the row that differs most; its bias is the mean
// over its rows. All are finite.
func (c *Comparison) CompareRows(tenant string, active, shadow []float64) {
	var g gap
	for i, v := range active {
		g.add(v, shadow[i], float64(len(active)))
	}
	c.each(tenant, func(d *differences) { d.note(&g) })
}

// NotFinite notes a query for which the shadow gave NaN or an infinity.
func (c *Comparison) NotFinite(tenant string) {
	c.each(tenant, func(d *differences) { d.notFinite++ })
}

// Failed notes a query that the shadow could not compute.
func (c *Comparison) Failed(tenant string) { c.each(tenant, func(d *differences) { d.failed++ }) }

// Skipped notes a query that was not computed by the shadow. It takes no lock and
// allocates nothing.
func (c *Comparison) Skipped(why Skip) { c.skipped[why].Add(1) }

// Skips returns how many queries were not computed for a reason.
func (c *Comparison) Skips(why Skip) uint64 { return c.skipped[why].Load() }

func (c *Comparison) each(tenant string, note func(*differences)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	note(&c.all)
	d := c.tenants[tenant]
	if d == nil {
		if len(c.tenants) >= MaxComparedTenants {
			tenant = quadnine.OtherTenant
		}
		if d = c.tenants[tenant]; d == nil {
			if c.tenants == nil {
				c.tenants = make(map[string]*differences)
			}
			d = new(differences)
			c.tenants[strings.Clone(tenant)] = d
		}
	}
	note(d)
}

// gap is by how much two answers to a query differ.
type gap struct {
	differs                  bool
	bias, absolute, relative float64
}

// add takes in one row of n.
func (g *gap) add(active, shadow, n float64) {
	if active == shadow {
		return
	}
	diff := clamped(shadow - active)
	m := max(math.Abs(active), math.Abs(shadow))
	g.differs = true
	g.bias = clamped(g.bias + diff/n)
	g.absolute = max(g.absolute, math.Abs(diff))
	g.relative = max(g.relative, math.Abs(shadow/m-active/m)) // in this order nothing overflows
}

func (d *differences) note(g *gap) {
	d.compared++
	d.bias -= d.bias / float64(d.compared) // a running mean: a sum could overflow
	if !g.differs {
		d.equal++
		return
	}
	d.bias = clamped(d.bias + g.bias/float64(d.compared))
	d.absolute[binOf(g.absolute)]++
	d.relative[binOf(g.relative)]++
	d.maxAbsolute, d.maxRelative = max(d.maxAbsolute, g.absolute), max(d.maxRelative, g.relative)
}

// clamped keeps a difference or a mean finite: JSON has no infinity. Also a mean can
// overflow, for quotients are rounded up, too.
func clamped(v float64) float64 { return max(-math.MaxFloat64, min(v, math.MaxFloat64)) }

func binOf(v float64) int {
	return max(0, min(int(math.Float64bits(v)>>binShift)-lowBin, numBins-1))
}

// binFloor returns the least magnitude in bin i.
func binFloor(i int) float64 { return math.Float64frombits(uint64(i+lowBin) << binShift) }

// Look returns the differences of all tenants together.
func (c *Comparison) Look() Differences {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.read("")
}

// Tenants returns the differences of each tenant, by name.
func (c *Comparison) Tenants() []Differences {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Differences, 0, len(c.tenants))
	for _, t := range slices.Sorted(maps.Keys(c.tenants)) {
		out = append(out, c.tenants[t].read(t))
	}
	return out
}

func (d *differences) read(tenant string) Differences {
	v := Differences{Tenant: tenant, Compared: d.compared, Equal: d.equal, NotFinite: d.notFinite, Failed: d.failed, Bias: d.bias}
	v.Absolute = d.spread(&d.absolute, d.maxAbsolute)
	v.Relative = d.spread(&d.relative, d.maxRelative)
	return v
}

func (d *differences) spread(bins *[numBins]uint64, most float64) Spread {
	return Spread{d.quantile(bins, 0.50, most), d.quantile(bins, 0.90, most), d.quantile(bins, 0.99, most), most}
}

// quantile returns the magnitude that the share q of what was compared did not
// exceed, interpolated within its bin. Equal numbers differ by 0.
func (d *differences) quantile(bins *[numBins]uint64, q, most float64) float64 {
	rank, seen := q*float64(d.compared), float64(d.equal)
	if rank <= seen {
		return 0
	}
	for i, n := range bins {
		if n > 0 && seen+float64(n) >= rank {
			low, high := binFloor(i), binFloor(i+1)
			return min(low+(high-low)*(rank-seen)/float64(n), most)
		}
		seen += float64(n)
	}
	return most
}
