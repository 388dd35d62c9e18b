package policy

import (
	"errors"
	"math"
	"time"
)

// JudgeConfig is what a canary must show. Its JSON names are the YAML keys.
type JudgeConfig struct {
	// PromoteAfter is how long a canary is watched at least: default 60 s.
	PromoteAfter time.Duration `json:"promoteAfter"`
	// MinRequests is how many requests it must have answered, failures not
	// counted, before it is promoted: default 100. While nothing works, nothing is
	// promoted.
	MinRequests int `json:"minRequests"`
	// MinFailures is how many requests must have failed before the error rate
	// can take it back: default 5.
	MinFailures int `json:"minFailures"`
	// ErrorBound is the chance, over a canary's whole life and however often it
	// is looked at, that the error rate takes back one which is no worse than the
	// active version. The test of the latency is held to the same. Default
	// 0.001; above 0, at most 0.1.
	ErrorBound float64 `json:"errorBound"`
	// BaselineErrorPercent is the share of failures that a service is thought to
	// have when its active version shows fewer: default 0.1. A canary that has
	// all of the requests is compared with this alone. Above 0, at most 10.
	BaselineErrorPercent float64 `json:"baselineErrorPercent"`
	// DetectFactor is how many times the active version's error rate a bad
	// canary is thought to have when the time to a decision is worked out:
	// default 10, 2 to 100. A canary in doubt is not promoted before that time.
	DetectFactor float64 `json:"detectFactor"`
	// LatencyRatio is how many times the active version's P95 a canary's may be:
	// default 2, 1 to 100.
	LatencyRatio float64 `json:"latencyRatio"`
	// LatencyFloor is a P95 that is never held against a canary: default 5 ms.
	LatencyFloor time.Duration `json:"latencyFloor"`
	// LatencyMinSamples is how many successes each of the two must have before
	// their P95s are compared: default 100, at least 20.
	LatencyMinSamples int `json:"latencyMinSamples"`
}

// DefaultJudgeConfig returns the configuration with every default.
func DefaultJudgeConfig() JudgeConfig {
	return JudgeConfig{
		PromoteAfter:         60 * time.Second,
		MinRequests:          100,
		MinFailures:          5,
		ErrorBound:           0.001,
		BaselineErrorPercent: 0.1,
		DetectFactor:         10,
		LatencyRatio:         2,
		LatencyFloor:         5 * time.Millisecond,
		LatencyMinSamples:    100,
	}
}

// maxJudged bounds what a canary can be asked to show: more is a mistake, for at
// 1,000 requests a second it is twelve days.
const maxJudged = 1 << 30

// Validate reports every field that is out of bounds, each by its JSON name,
// as one joined error; nil when there is none. It changes nothing: zero is not
// a default here.
func (c *JudgeConfig) Validate() error {
	var v validation
	v.atLeast("promoteAfter", c.PromoteAfter, time.Millisecond)
	v.between("minRequests", int64(c.MinRequests), 1, maxJudged)
	v.between("minFailures", int64(c.MinFailures), 1, maxJudged)
	v.within("errorBound", c.ErrorBound, 1e-9, 0.1)
	v.within("baselineErrorPercent", c.BaselineErrorPercent, 1e-6, 10)
	v.within("detectFactor", c.DetectFactor, 2, 100)
	v.within("latencyRatio", c.LatencyRatio, 1, 100)
	v.atLeast("latencyFloor", c.LatencyFloor, time.Microsecond)
	v.between("latencyMinSamples", int64(c.LatencyMinSamples), 20, maxJudged)
	return errors.Join(v...)
}

func (v *validation) within(field string, got, low, high float64) {
	if got < low || got > high || math.IsNaN(got) {
		v.add(field, "is %v: want %v to %v", got, low, high)
	}
}
