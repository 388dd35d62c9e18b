package objects

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// rootN is the root that stands for version n in these tests.
func rootN(n uint64) (r delta.Root) { r[0], r[1] = byte(n), 1; return r }

func baseN(n uint64) delta.Base { return delta.Base{Version: n, Root: rootN(n)} }

// offerOf makes an offer of "VERSION<BASE role:size role:size …"; without <BASE
// there is only a full file.
func offerOf(t *testing.T, s string) *offer {
	t.Helper()
	words := strings.Fields(s)
	o := &offer{manifest: &delta.Manifest{Model: "m"}}
	var base uint64
	if _, err := fmt.Sscanf(strings.ReplaceAll(words[0], "<", " "), "%d %d", &o.manifest.Version, &base); err != nil && base != 0 {
		t.Fatal(err)
	}
	o.manifest.TargetRoot = rootN(o.manifest.Version)
	if base != 0 {
		o.manifest.Base = new(baseN(base))
	}
	for _, w := range words[1:] {
		role, size, _ := strings.Cut(w, ":")
		f := delta.File{Path: role, Role: delta.Role(role)}
		if _, err := fmt.Sscan(size, &f.Size); err != nil {
			t.Fatal(err)
		}
		o.manifest.Files = append(o.manifest.Files, f)
		o.usable = append(o.usable, f)
	}
	return o
}

func (s Step) String() string { return fmt.Sprintf("%d:%s", s.Version, s.Role) }

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		here   []uint64
		offers []string
		target uint64
		want   string
	}{
		"nothing here":                    {nil, []string{"1 full:100", "2<1 delta:10"}, 2, "1:full 2:delta"},
		"full is smaller than the chain":  {nil, []string{"1 full:100", "2<1 delta:10", "3<2 delta:10 full:105"}, 3, "3:full"},
		"a delta from what is here":       {[]uint64{1}, []string{"1 full:100", "2<1 delta:10 full:100"}, 2, "2:delta"},
		"three deltas beat a full file":   {[]uint64{1}, []string{"2<1 delta:10", "3<2 delta:10", "4<3 delta:10 full:31"}, 4, "2:delta 3:delta 4:delta"},
		"one delta beats two":             {[]uint64{1, 2}, []string{"3<2 delta:30", "4<3 delta:30"}, 4, "3:delta 4:delta"},
		"the nearest of those here":       {[]uint64{1, 3}, []string{"2<1 delta:1", "4<3 delta:50"}, 4, "4:delta"},
		"a patch is smaller":              {[]uint64{1}, []string{"2<1 delta:10 bsdiff4:3 zstd-patch:4 full:100"}, 2, "2:bsdiff4"},
		"as many bytes in fewer steps":    {[]uint64{1}, []string{"2<1 delta:5", "3<2 delta:5 full:10"}, 3, "3:full"},
		"an empty delta":                  {[]uint64{1}, []string{"2<1 delta:0 full:10"}, 2, "2:delta"},
		"over a full file below":          {[]uint64{1}, []string{"3 full:20", "4<3 delta:1", "5<4 delta:1 full:90"}, 5, "3:full 4:delta 5:delta"},
		"another version of the number":   {[]uint64{100 + 2}, []string{"2<1 delta:5"}, 2, "m@1 with root"},
		"base nowhere":                    {nil, []string{"3<2 delta:5"}, 3, "m@2 with root b3:02010"},
		"base of the base nowhere":        {nil, []string{"3<2 delta:5", "2<1 delta:5"}, 3, "m@1 with root b3:01010"},
		"no file of the right size":       {nil, []string{"3<2"}, 3, "no file of m@3"},
		"what is here is not asked again": {[]uint64{3}, []string{"3 full:5"}, 3, "another m@3 is here"},
	} {
		t.Run(name, func(t *testing.T) {
			var here []delta.Base
			for _, n := range c.here {
				here = append(here, baseN(n))
			}
			var offers []*offer
			var target *offer
			for _, s := range c.offers {
				o := offerOf(t, s)
				offers = append(offers, o)
				if o.manifest.Version == c.target {
					target = o
				}
			}
			steps, err := plan(here, offers, target)
			got := strings.Trim(fmt.Sprint(steps), "[]")
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// cheapest is plan's oracle: it tries every way.
func cheapest(here []delta.Base, offers []*offer, target delta.Base) (bytes int64, steps int, ok bool) {
	if slices.Contains(here, target) {
		return 0, 0, true
	}
	if slices.ContainsFunc(here, func(b delta.Base) bool { return b.Version == target.Version }) {
		return 0, 0, false
	}
	for _, o := range offers {
		if o.base() != target {
			continue
		}
		for _, f := range o.usable {
			b, s, found := int64(0), 0, true
			if f.Role != delta.RoleFull {
				b, s, found = cheapest(here, offers, *o.manifest.Base)
			}
			if found && (!ok || b+f.Size < bytes || b+f.Size == bytes && s+1 < steps) {
				bytes, steps, ok = b+f.Size, s+1, true
			}
		}
	}
	return bytes, steps, ok
}

func TestPlanIsTheCheapest(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 2))
	found := 0
	for range 3000 {
		var here []delta.Base
		var offers []*offer
		last := uint64(2 + r.IntN(7))
		for n := uint64(1); n <= last; n++ {
			if n < last && r.IntN(4) == 0 {
				b := baseN(n)
				if r.IntN(4) == 0 {
					b.Root[2] = 9 // another version of that number
				}
				here = append(here, b)
			}
			o := &offer{manifest: &delta.Manifest{Model: "m", Version: n, TargetRoot: rootN(n)}}
			if n > 1 && r.IntN(5) > 0 {
				o.manifest.Base = new(baseN(1 + r.Uint64N(n-1)))
				for _, role := range []delta.Role{delta.RoleDelta, delta.RoleBSDiff4} {
					if r.IntN(2) == 0 {
						o.usable = append(o.usable, delta.File{Role: role, Size: r.Int64N(20)})
					}
				}
			}
			if r.IntN(3) == 0 {
				o.usable = append(o.usable, delta.File{Role: delta.RoleFull, Size: 10 + r.Int64N(40)})
			}
			if n == last || r.IntN(6) > 0 {
				offers = append(offers, o)
			}
		}
		target := offers[len(offers)-1]
		r.Shuffle(len(offers), func(i, j int) { offers[i], offers[j] = offers[j], offers[i] })
		bytes, count, ok := cheapest(here, offers, target.base())
		steps, err := plan(here, offers, target)
		if ok != (err == nil) {
			t.Fatalf("here %v: plan says %v, there is a way: %t", here, err, ok)
		}
		if !ok {
			continue
		}
		found++
		sum := int64(0)
		for _, s := range steps {
			sum += s.Size
		}
		if sum != bytes || len(steps) != count {
			t.Fatalf("here %v: %v moves %d bytes, %d in %d steps are enough", here, steps, sum, bytes, count)
		}
	}
	if found < 500 {
		t.Errorf("only %d of the draws had a way: the test shows little", found)
	}
}
