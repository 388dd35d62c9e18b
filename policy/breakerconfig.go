package policy

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Bounds of what a breaker's words can hold.
const (
	maxProbes   = 8         // lease slots of one breaker
	maxCount    = 1<<16 - 1 // failures, or successes, in one slice of a window
	maxMinReqs  = 30_000    // half of maxCount: what survives one halving (window.add)
	maxKeyBound = 1 << 24   // 16 Mi keys ≈ 3 GB when all are in use: more is a mistake
)

// BreakerConfig is how breakers behave. Its JSON names are the YAML keys and
// the fields of quadnine.policy.v1.TenantBreaker.
type BreakerConfig struct {
	// FailureThreshold is how many failures within Window open a closed
	// breaker: default 4, "more than 3 in the last minute". Not used when
	// FailureRatePercent is set. At most 65,535.
	FailureThreshold int `json:"failureThreshold"`
	// FailureRatePercent, when above 0, replaces the count: a breaker opens when
	// at least this share of the requests within Window failed. At most 100.
	FailureRatePercent float64 `json:"failureRatePercent"`
	// MinRequests is how many requests Window must hold before
	// FailureRatePercent is looked at: default 20, at most 30,000.
	MinRequests int `json:"minRequests"`
	// Window is what is looked back on, in ten slices: default 60 s, at least 100 ms.
	Window time.Duration `json:"window"`
	// OpenFor is the time from opening to the first probe: default 30 s.
	OpenFor time.Duration `json:"openFor"`
	// ProbeLease is how long a probe may stay without a result before another
	// takes its place: default 10 s.
	ProbeLease time.Duration `json:"probeLease"`
	// SuccessThreshold is how many probes must succeed to close a half-open
	// breaker, and how many may be out at a time: default 1, at most 8. One
	// failed probe opens it again.
	SuccessThreshold int `json:"successThreshold"`
	// MaxKeys bounds the keys that have a breaker: default 65,536. Fixed at New.
	MaxKeys int `json:"maxKeys"`
	// MaxKeysPerTenant bounds those of one tenant: default 4,096. Fixed at New.
	MaxKeysPerTenant int `json:"maxKeysPerTenant"`
	// MaxTenants bounds the tenants that have a breaker; those past it share
	// quadnine.OtherTenant's: default 4,096. Fixed at New.
	MaxTenants int `json:"maxTenants"`
	// DecayAfter is how long an open breaker nobody asks for is kept: default 10 min.
	DecayAfter time.Duration `json:"decayAfter"`
}

// DefaultBreakerConfig returns the configuration with every default.
func DefaultBreakerConfig() BreakerConfig {
	return BreakerConfig{
		FailureThreshold: 4,
		MinRequests:      20,
		Window:           60 * time.Second,
		OpenFor:          30 * time.Second,
		ProbeLease:       10 * time.Second,
		SuccessThreshold: 1,
		MaxKeys:          65_536,
		MaxKeysPerTenant: 4_096,
		MaxTenants:       4_096,
		DecayAfter:       10 * time.Minute,
	}
}

// Validate reports every field that is out of bounds, each by its JSON name,
// as one joined error; nil when there is none. It changes nothing: zero is not
// a default here.
func (c *BreakerConfig) Validate() error {
	var v validation
	if c.FailureRatePercent == 0 {
		v.between("failureThreshold", int64(c.FailureThreshold), 1, maxCount)
	} else {
		v.between("minRequests", int64(c.MinRequests), 1, maxMinReqs)
	}
	if c.FailureRatePercent < 0 || c.FailureRatePercent > 100 || math.IsNaN(c.FailureRatePercent) {
		v.add("failureRatePercent", "is %v: want 0 (count failures instead) to 100", c.FailureRatePercent)
	}
	v.atLeast("window", c.Window, 100*time.Millisecond)
	v.atLeast("openFor", c.OpenFor, time.Millisecond)
	v.atLeast("probeLease", c.ProbeLease, time.Millisecond)
	v.between("successThreshold", int64(c.SuccessThreshold), 1, maxProbes)
	v.between("maxKeys", int64(c.MaxKeys), 1, maxKeyBound)
	v.between("maxKeysPerTenant", int64(c.MaxKeysPerTenant), 1, int64(max(c.MaxKeys, 1)))
	v.between("maxTenants", int64(c.MaxTenants), 1, maxKeyBound)
	v.atLeast("decayAfter", c.DecayAfter, time.Second)
	return errors.Join(v...)
}

// maxDuration keeps sums of a time and a duration far from overflow.
const maxDuration = 365 * 24 * time.Hour

// validation collects what is wrong, one line a field.
type validation []error

func (v *validation) add(field, format string, args ...any) {
	*v = append(*v, fmt.Errorf("policy: %s "+format, append([]any{field}, args...)...))
}

func (v *validation) between(field string, got, low, high int64) {
	if got < low || got > high {
		v.add(field, "is %d: want %d to %d", got, low, high)
	}
}

func (v *validation) atLeast(field string, got, low time.Duration) {
	if got < low || got > maxDuration {
		v.add(field, "is %v: want %v to %v", got, low, maxDuration)
	}
}
