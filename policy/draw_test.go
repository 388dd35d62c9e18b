package policy

import (
	"math"
	"strconv"
	"testing"
)

func TestDrawGivesTheShare(t *testing.T) {
	const n, share = 1_000_000, 0.05
	const limit = (1 << 32) / 20
	for name, draw := range map[string]func(i int) uint64{
		"users of one tenant": func(i int) uint64 { return Draw(7, "acme", strconv.AppendInt(nil, int64(i), 10)) },
		"tenants":             func(i int) uint64 { return Draw(7, "t-"+strconv.Itoa(i), nil) },
		"salts":               func(i int) uint64 { return Draw(uint64(i), "acme", []byte("u")) },
	} {
		hits := 0
		for i := range n {
			if draw(i)>>32 < limit {
				hits++
			}
		}
		if got := float64(hits) / n; math.Abs(got-share) > 0.001 {
			t.Errorf("%s: %.4f of the draws fall to the canary, want %v", name, got, share)
		}
	}
}

// Fixed numbers: a caller keeps its version over releases of ours.
func TestDrawStays(t *testing.T) {
	if a, b := Draw(1, "acme", []byte("u-1")), Draw(1, "acme", []byte("u-1")); a != b {
		t.Fatalf("%x and %x", a, b)
	}
	seen := make(map[uint64]string)
	for _, c := range []struct {
		salt         uint64
		tenant, user string
	}{{1, "acme", "u-1"}, {2, "acme", "u-1"}, {1, "acm", "eu-1"}, {1, "acmeu-1", ""}, {1, "", "acmeu-1"}, {300, "acme", "u-1"}} {
		d := Draw(c.salt, c.tenant, []byte(c.user))
		if who, ok := seen[d]; ok {
			t.Errorf("%v draws what %s draws", c, who)
		}
		seen[d] = c.tenant + "/" + c.user
	}
}

func BenchmarkDraw(b *testing.B) {
	user := []byte("0123456789")
	for b.Loop() {
		Draw(42, "tenant-17", user)
	}
}
