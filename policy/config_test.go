package policy

import (
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	b, c := DefaultBreakerConfig(), DefaultCacheConfig()
	if err := b.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestBreakerConfigNamesTheField(t *testing.T) {
	for field, change := range map[string]func(*BreakerConfig){
		"failureThreshold":   func(c *BreakerConfig) { c.FailureThreshold = 0 },
		"failureRatePercent": func(c *BreakerConfig) { c.FailureRatePercent = math.NaN() },
		"minRequests":        func(c *BreakerConfig) { c.FailureRatePercent, c.MinRequests = 50, 30_001 },
		"window":             func(c *BreakerConfig) { c.Window = 99 * time.Millisecond },
		"openFor":            func(c *BreakerConfig) { c.OpenFor = -1 },
		"probeLease":         func(c *BreakerConfig) { c.ProbeLease = 0 },
		"successThreshold":   func(c *BreakerConfig) { c.SuccessThreshold = 9 },
		"maxKeys":            func(c *BreakerConfig) { c.MaxKeys, c.MaxKeysPerTenant = 0, 1 },
		"maxKeysPerTenant":   func(c *BreakerConfig) { c.MaxKeysPerTenant = c.MaxKeys + 1 },
		"maxTenants":         func(c *BreakerConfig) { c.MaxTenants = 1<<24 + 1 },
		"decayAfter":         func(c *BreakerConfig) { c.DecayAfter = 366 * 24 * time.Hour },
	} {
		cfg := DefaultBreakerConfig()
		change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "policy: "+field+" is ") || strings.Count(err.Error(), "\n") != 0 {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := NewBreakers(cfg); err == nil {
			t.Errorf("%s: NewBreakers accepts it", field)
		}
	}
	var zero BreakerConfig
	if got := strings.Count(zero.Validate().Error(), "policy: "); got != 9 {
		t.Errorf("the zero configuration has %d errors, want 9: %v", got, zero.Validate())
	}
}

func TestCacheConfigNamesTheField(t *testing.T) {
	for field, change := range map[string]func(*CacheConfig){
		"ttl":                func(c *CacheConfig) { c.TTL = 0 },
		"maxBytes":           func(c *CacheConfig) { c.MaxBytes, c.MaxBodyBytes = 1, 1 },
		"maxBodyBytes":       func(c *CacheConfig) { c.MaxBodyBytes = int(c.MaxBytes/2) + 1 },
		"identityHeaders[0]": func(c *CacheConfig) { c.IdentityHeaders = []string{"Cookie"} },
		"identityHeaders[1]": func(c *CacheConfig) { c.IdentityHeaders = []string{"cookie", "cookie"} },
		"identityHeaders[2]": func(c *CacheConfig) { c.IdentityHeaders = []string{"a", "b", "x y"} },
	} {
		cfg := DefaultCacheConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "policy: "+field+" is ") {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := NewCache(cfg); err == nil {
			t.Errorf("%s: NewCache accepts it", field)
		}
	}
}

var protoField = regexp.MustCompile(`(?m)^  (?:repeated )?[\w.]+ (\w+) = \d+;`)

// TestProtoNames holds the configuration and its .proto files together: the same
// fields, by JSON name.
func TestProtoNames(t *testing.T) {
	for file, x := range map[string]struct {
		config any
		others []string // decoded before policy is asked
	}{
		"tenant_breaker.proto": {BreakerConfig{}, []string{"tenant", "metric", "requireTenant", "user"}},
		"response_cache.proto": {CacheConfig{}, nil},
	} {
		text, err := os.ReadFile("../xds/api/quadnine/policy/v1/" + file)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(x.config)) {
			want[f.Tag.Get("json")] = true
		}
		for _, n := range x.others {
			want[n] = true
		}
		for _, m := range protoField.FindAllStringSubmatch(string(text), -1) {
			n := jsonName(m[1])
			if !want[n] {
				t.Errorf("%s: field %s has no counterpart", file, n)
			}
			delete(want, n)
		}
		for n := range want {
			t.Errorf("%s: no field %s", file, n)
		}
	}
}

// jsonName is protobuf's: lowerCamel.
func jsonName(field string) string {
	parts := strings.Split(field, "_")
	for i, p := range parts[1:] {
		parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}
