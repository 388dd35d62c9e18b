package driver

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// x/net's decoder reads what is made by hand.
func TestBlocksDecode(t *testing.T) {
	for name, p := range map[string]Plan{
		"static":  {Addr: "127.0.0.1:9", Path: "/a/b", Tenants: 2, Metrics: 2},
		"unique":  {Addr: "127.0.0.1:9", Path: "/a/b", Tenants: 2, Metrics: 2, Unique: true},
		"message": {Addr: "127.0.0.1:9", Path: "/a/b", Unique: true, Message: 10},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlocks(p)
			dec := hpack.NewDecoder(4096, nil)
			seen := map[string]bool{}
			for i := range 500 {
				fields, err := dec.DecodeFull(b.append(nil, i, i == 0))
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				var names []string
				for _, f := range fields {
					names = append(names, f.Name)
					if f.Name == "traceparent" {
						if len(f.Value) != traceLen || seen[f.Value] {
							t.Fatalf("request %d: traceparent %q", i, f.Value)
						}
						seen[f.Value] = true
					}
				}
				want := []string{":method", ":scheme", ":path", ":authority", "user-agent", "accept"}
				if p.Message > 0 {
					want = append(want, "content-type", "te")
				}
				if p.Unique {
					want = append(want, "traceparent")
				}
				if !slices.Equal(names, want) {
					t.Fatalf("request %d: %v, want %v", i, names, want)
				}
			}
		})
	}
}

func TestOKStatus(t *testing.T) {
	for block, want := range map[string]bool{
		"\x88": true, "\x3f\xe1\x1f\x88": true, "\x20\x88\x54": true,
		"\x48\x03200": true, "\x08\x03200\x00": true, "\x18\x82\x10\x01": true,
		"": false, "\x89": false, "\x8e": false, "\x48\x03503": false, "\x3f": false, "\x20": false, "\x48\x82\x6c\x01": false,
	} {
		if got := okStatus([]byte(block)); got != want {
			t.Errorf("okStatus(% x) = %v", block, got)
		}
	}
}

// Quantiles are right to the width of a bucket, 3 %.
func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 10_000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond, 0: time.Microsecond, 1: 10 * time.Millisecond} {
		got := h.quantile(q)
		if diff := float64(got-want) / float64(want); diff < -0.032 || diff > 0.032 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.max != 10*time.Millisecond || h.n != 10_000 {
		t.Errorf("max %v of %d", h.max, h.n)
	}
	if new(histogram).quantile(0.5) != 0 {
		t.Error("the median of nothing is not 0")
	}
}

// Every value lies in a bucket whose middle is within 1/32 of it.
func TestBuckets(t *testing.T) {
	for v := time.Duration(1); v < 1<<39; v += v/7 + 1 {
		m := middle(bucket(v))
		if d := max(m-v, v-m); d > v/sub+1 {
			t.Fatalf("%d is counted as %d", v, m)
		}
	}
}

func BenchmarkBlock(b *testing.B) {
	bl := newBlocks(Plan{Addr: "127.0.0.1:9", Path: "/api/v2/metrics/query", Tenants: 16, Metrics: 64, Unique: true})
	var buf []byte
	i := 0
	for b.Loop() {
		buf = bl.append(buf[:0], i, false)
		i++
	}
}
