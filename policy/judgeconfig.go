package policy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// JudgeConfig is what a canary must show. Its JSON names are the keys of
// Set, and of `quadnine run --model-judge`.
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
	// Alpha is the chance, over a canary's whole life and however often it is
	// looked at, that the error rate takes back one which is no worse than the
	// active version. The test of the latency is held to the same. Default
	// 0.001; above 0, at most 0.1.
	Alpha float64 `json:"alpha"`
	// Beta is the chance, over a canary's whole life and however often it is
	// looked at, that one is promoted whose error rate is at least Margin times
	// as high. One whose P95 is above its limit is held to the same. Default
	// 0.01; above 0, at most 0.5.
	Beta float64 `json:"beta"`
	// Margin is how many times the active version's error rate (and
	// BaselineErrorPercent) a canary must have to be one that must not be
	// promoted: default 10, 1.5 to 100. Between one and Margin times either may
	// happen.
	Margin float64 `json:"margin"`
	// BaselineErrorPercent is the share of failures that a service is thought to
	// have when its active version shows fewer: default 0.1. A canary that has
	// all of the requests is compared with this alone. Above 0, at most 10, and
	// times Margin at most 50.
	BaselineErrorPercent float64 `json:"baselineErrorPercent"`
	// LatencyRatio is how many times the active version's P95 a canary's may be:
	// default 2, 1 to 100.
	LatencyRatio float64 `json:"latencyRatio"`
	// LatencyFloor is a P95 that is never held against a canary: default 5 ms.
	LatencyFloor time.Duration `json:"latencyFloor"`
	// LatencyMinSamples is how many successes each of the two must have before
	// their P95s are compared: default 100, at least 20.
	LatencyMinSamples int `json:"latencyMinSamples"`
	// MaxWait is how long a canary may be undecided, and never less than
	// PromoteAfter: default 1 h.
	MaxWait time.Duration `json:"maxWait"`
	// AtMaxWait is what becomes of one that is undecided then: Hold, the default,
	// goes on and says so; Rollback takes it back.
	AtMaxWait Verdict `json:"atMaxWait"`
}

// DefaultJudgeConfig returns the configuration with every default.
func DefaultJudgeConfig() JudgeConfig {
	return JudgeConfig{
		PromoteAfter:         60 * time.Second,
		MinRequests:          100,
		MinFailures:          5,
		Alpha:                0.001,
		Beta:                 0.01,
		Margin:               10,
		BaselineErrorPercent: 0.1,
		LatencyRatio:         2,
		LatencyFloor:         5 * time.Millisecond,
		LatencyMinSamples:    100,
		MaxWait:              time.Hour,
		AtMaxWait:            Hold,
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
	v.within("alpha", c.Alpha, 1e-9, 0.1)
	v.within("beta", c.Beta, 1e-9, 0.5)
	v.within("margin", c.Margin, 1.5, 100)
	v.within("baselineErrorPercent", c.BaselineErrorPercent, 1e-6, min(10, 50/max(c.Margin, 1)))
	v.within("latencyRatio", c.LatencyRatio, 1, 100)
	v.atLeast("latencyFloor", c.LatencyFloor, time.Microsecond)
	v.between("latencyMinSamples", int64(c.LatencyMinSamples), 20, maxJudged)
	v.atLeast("maxWait", c.MaxWait, time.Second)
	if c.AtMaxWait != Hold && c.AtMaxWait != Rollback {
		v.add("atMaxWait", "is %v: want hold or rollback", c.AtMaxWait)
	}
	return errors.Join(v...)
}

func (v *validation) within(field string, got, low, high float64) {
	if got < low || got > high || math.IsNaN(got) {
		v.add(field, "is %v: want %v to %v", got, low, high)
	}
}

// Set sets the field with a JSON name from text, as on a command line. What a
// manifest says of each version, promoteAfter and minRequests, is not set so.
// It does not check bounds: Validate does.
func (c *JudgeConfig) Set(key, value string) (err error) {
	number := func(to *float64) { *to, err = strconv.ParseFloat(value, 64) }
	whole := func(to *int) { *to, err = strconv.Atoi(value) }
	span := func(to *time.Duration) { *to, err = time.ParseDuration(value) }
	switch key {
	case "minFailures":
		whole(&c.MinFailures)
	case "alpha":
		number(&c.Alpha)
	case "beta":
		number(&c.Beta)
	case "margin":
		number(&c.Margin)
	case "baselineErrorPercent":
		number(&c.BaselineErrorPercent)
	case "latencyRatio":
		number(&c.LatencyRatio)
	case "latencyFloor":
		span(&c.LatencyFloor)
	case "latencyMinSamples":
		whole(&c.LatencyMinSamples)
	case "maxWait":
		span(&c.MaxWait)
	case "atMaxWait":
		switch value {
		case Hold.String():
			c.AtMaxWait = Hold
		case Rollback.String():
			c.AtMaxWait = Rollback
		default:
			err = fmt.Errorf("is %q: want hold or rollback", value)
		}
	case "promoteAfter", "minRequests":
		return fmt.Errorf("policy: %s is each manifest's: canary.promote_after, canary.min_requests", key)
	default:
		return fmt.Errorf("policy: %s is not a key: want alpha, beta, margin, baselineErrorPercent, minFailures, latencyRatio, latencyFloor, latencyMinSamples, maxWait or atMaxWait", key)
	}
	if err != nil {
		return fmt.Errorf("policy: %s: %w", key, err)
	}
	return nil
}
