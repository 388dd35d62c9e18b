package bufpool

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Whatever is grown keeps its bytes, and two buffers that are out never share any.
func TestGrowKeepsWhatThereIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type lent struct {
		b    []byte
		mark byte
	}
	var out []lent
	for i := range 2000 {
		switch {
		case len(out) > 0 && rng.IntN(3) == 0:
			k := rng.IntN(len(out))
			Free(out[k].b)
			out[k] = out[len(out)-1]
			out = out[:len(out)-1]
		case len(out) > 0 && rng.IntN(2) == 0:
			l := &out[rng.IntN(len(out))]
			n := rng.IntN(64 << 10)
			l.b = append(Grow(l.b, n), bytes.Repeat([]byte{l.mark}, n)...)
		default:
			n := rng.IntN(20 << 10)
			out = append(out, lent{append(Get(n), bytes.Repeat([]byte{byte(i)}, n)...), byte(i)})
		}
		for _, l := range out {
			if got := bytes.Count(l.b, []byte{l.mark}); got != len(l.b) {
				t.Fatalf("step %d: %d of %d bytes are another buffer's", i, len(l.b)-got, len(l.b))
			}
		}
		if len(out) > 20 {
			out = out[1:]
		}
	}
}

// A front that was cut off makes a buffer nobody's: it may overlap another one.
func TestFreeTakesWholeBuffersOnly(t *testing.T) {
	for _, n := range []int{Small, medium, large, whole} {
		b := Get(n)[:n]
		Free(b[1:])
		if g := Get(n); &g[:1][0] == &b[1] {
			t.Errorf("a part of a buffer of %d bytes was lent", n)
		}
	}
}
