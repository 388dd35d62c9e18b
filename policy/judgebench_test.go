package policy

import (
	"testing"
	"time"
)

func TestJudgeAllocs(t *testing.T) {
	j := newJudge(t, 0, func(c *JudgeConfig) { c.PromoteAfter = time.Hour })
	now := int64(0)
	wantAllocs(t, "Record and Verdict", func() {
		now += second
		for range 10 {
			j.Record(SideCanary, Success, time.Millisecond)
			j.Record(SideActive, Success, time.Millisecond)
		}
		if v, e := j.Verdict(now); v != Hold {
			t.Fatal(e)
		}
	})
}

func BenchmarkJudgeRecord(b *testing.B) {
	j := newJudge(b, 0, nil)
	b.ReportAllocs()
	for b.Loop() {
		j.Record(SideActive, Success, time.Millisecond)
	}
}

func BenchmarkJudgeRecordParallel(b *testing.B) {
	j := newJudge(b, 0, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			j.Record(SideActive, Success, time.Millisecond)
		}
	})
}

func BenchmarkVerdict(b *testing.B) {
	j := newJudge(b, 0, func(c *JudgeConfig) { c.PromoteAfter = time.Hour })
	for i := range 100_000 {
		j.Record(SideActive, Success, time.Duration(i)*time.Microsecond)
		if i%20 == 0 {
			j.Record(SideCanary, Success, time.Duration(i)*time.Microsecond)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		j.Verdict(1)
	}
}
