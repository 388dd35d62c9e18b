package policy

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

// docs/canary.md tells how long decisions take, and the judge tells the same.
func TestDecisionTimesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/canary.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what   string
		share  float64
		rate   float64 // of the active version's errors
		change func(*JudgeConfig)
	}{
		{"5 %, active fails 0.1 %", .05, .001, nil},
		{"5 %, active fails 1 %", .05, .01, nil},
		{"50 %, active fails 0.1 %", .5, .001, nil},
		{"5 %, active fails 0.1 %, margin 3", .05, .001, func(c *JudgeConfig) { c.Margin = 3 }},
		{"5 %, active fails 0.1 %, beta 0.1", .05, .001, func(c *JudgeConfig) { c.Beta = .1 }},
	} {
		cells := []string{"| " + x.what}
		for _, perSecond := range []float64{1, 9, 90, 900} {
			j := newJudge(t, 0, x.change)
			const over = 10_000 * time.Second
			canary := perSecond * over.Seconds()
			all := canary / x.share
			j.sides[SideCanary].requests.Add(uint64(canary))
			j.sides[SideActive].requests.Add(uint64(math.Round(all - canary)))
			j.sides[SideActive].failures.Add(uint64(math.Round((all - canary) * x.rate)))
			cells = append(cells, roughly(j.Look(int64(over)).DecideIn))
		}
		if line := strings.Join(cells, " | ") + " |"; !strings.Contains(string(page), line) {
			t.Errorf("docs/canary.md lacks the line\n%s", line)
		}
	}
	for _, cfg := range []JudgeConfig{DefaultJudgeConfig()} {
		for _, want := range []string{
			fmt.Sprintf("| `alpha` | %v |", cfg.Alpha), fmt.Sprintf("| `beta` | %v |", cfg.Beta), fmt.Sprintf("| `margin` | %v |", cfg.Margin),
			fmt.Sprintf("| `baselineErrorPercent` | %v |", cfg.BaselineErrorPercent), fmt.Sprintf("| `minFailures` | %v |", cfg.MinFailures),
			fmt.Sprintf("| `latencyRatio` | %v |", cfg.LatencyRatio), fmt.Sprintf("| `latencyFloor` | %v |", cfg.LatencyFloor),
			fmt.Sprintf("| `latencyMinSamples` | %v |", cfg.LatencyMinSamples), fmt.Sprintf("| `maxWait` | %v |", cfg.MaxWait), fmt.Sprintf("| `atMaxWait` | %v |", cfg.AtMaxWait),
		} {
			if !strings.Contains(string(page), want) {
				t.Errorf("docs/canary.md lacks the line %s", want)
			}
		}
	}
}
