package snapshot

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/quadnine/quadnine/policy"
)

// settings is what a file comes to.
type settings struct {
	breaker policy.BreakerConfig
	cache   policy.CacheConfig
	keys    Keys
}

// settings puts what the file sets over the defaults.
func (f *File) settings() (settings, error) {
	s := settings{policy.DefaultBreakerConfig(), policy.DefaultCacheConfig(), DefaultKeys()}
	var errs []error
	if f.TenantBreaker != nil {
		var err error
		s.breaker, s.keys, err = f.TenantBreaker.Settings()
		errs = append(errs, below("tenantBreaker", err)...)
	}
	if f.ResponseCache != nil {
		var err error
		s.cache, err = f.ResponseCache.Settings()
		errs = append(errs, below("responseCache", err)...)
	}
	return s, errors.Join(errs...)
}

// Settings puts what b sets over the defaults. The error joins one for each
// field that is out of bounds, each starting with the field's path:
// "window is 1ms: want …".
func (b *TenantBreaker) Settings() (policy.BreakerConfig, Keys, error) {
	c, keys := policy.DefaultBreakerConfig(), DefaultKeys()
	set(&c.FailureThreshold, int(b.FailureThreshold))
	set(&c.FailureRatePercent, b.FailureRatePercent)
	set(&c.MinRequests, int(b.MinRequests))
	set(&c.Window, time.Duration(b.Window))
	set(&c.OpenFor, time.Duration(b.OpenFor))
	set(&c.ProbeLease, time.Duration(b.ProbeLease))
	set(&c.SuccessThreshold, int(b.SuccessThreshold))
	set(&c.MaxKeys, int(b.MaxKeys))
	set(&c.MaxTenants, int(b.MaxTenants))
	set(&c.DecayAfter, time.Duration(b.DecayAfter))
	c.MaxKeysPerTenant = min(c.MaxKeysPerTenant, c.MaxKeys) // a default never contradicts what is set
	set(&c.MaxKeysPerTenant, int(b.MaxKeysPerTenant))
	keys.RequireTenant = b.RequireTenant
	errs := sources(&keys.Tenant, b.Tenant, "tenant")
	errs = append(errs, sources(&keys.Metric, b.Metric, "metric")...)
	errs = append(errs, sources(&keys.User, b.User, "user")...)
	errs = append(errs, fields(c.Validate())...)
	return c, keys, errors.Join(errs...)
}

// Settings puts what r sets over the defaults. Its error is as TenantBreaker's.
func (r *ResponseCache) Settings() (policy.CacheConfig, error) {
	c := policy.DefaultCacheConfig()
	set(&c.TTL, time.Duration(r.TTL))
	set(&c.MaxBytes, r.MaxBytes)
	c.MaxBodyBytes = int(min(int64(c.MaxBodyBytes), max(1, c.MaxBytes/2)))
	set(&c.MaxBodyBytes, int(r.MaxBodyBytes))
	if len(r.IdentityHeaders) > 0 {
		c.IdentityHeaders = r.IdentityHeaders
	}
	return c, errors.Join(fields(c.Validate())...)
}

// below puts the paths of fieldErrors below message.
func below(message string, err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	out := joined.Unwrap()
	for i, e := range out {
		if fe, ok := errors.AsType[*fieldError](e); ok {
			out[i] = &fieldError{append([]string{message}, fe.path...), fe.what}
		}
	}
	return out
}

func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

var policyError = regexp.MustCompile(`^policy: ([A-Za-z]+)(?:\[(\d+)\])? (.*)$`)

// fields gives each of policy's errors its path.
func fields(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var out []error
	for _, e := range joined.Unwrap() {
		m := policyError.FindStringSubmatch(e.Error())
		if m == nil {
			out = append(out, e)
			continue
		}
		path := []string{m[1]}
		if m[2] != "" {
			path = append(path, m[2])
		}
		out = append(out, &fieldError{path, m[3]})
	}
	return out
}

// sources converts a list of key sources; an empty one keeps the default.
func sources(dst *[]KeySource, in []SourceOne, field string) []error {
	if len(in) == 0 {
		return nil
	}
	var errs []error
	out := make([]KeySource, 0, len(in))
	for i, one := range in {
		var k KeySource
		n := 0
		if one.Header != "" {
			k, n = KeySource{Kind: FromHeader, Name: one.Header}, n+1
		}
		if one.QueryParameter != "" {
			k, n = KeySource{Kind: FromQuery, Name: one.QueryParameter}, n+1
		}
		if one.PathSegment != nil {
			k, n = KeySource{Kind: FromPathSegment, Index: int(one.PathSegment.Index)}, n+1
		}
		if one.GrpcMethod != nil {
			k, n = KeySource{Kind: FromGRPCMethod}, n+1
		}
		path := []string{field, strconv.Itoa(i)}
		switch {
		case n != 1:
			errs = append(errs, &fieldError{path, fmt.Sprintf("sets %d sources: want exactly one of %s", n, strings.Join(knownFields["SourceOne"], ", "))})
		case k.Kind == FromHeader && (strings.ToLower(k.Name) != k.Name || strings.ContainsAny(k.Name, " \t\r\n:,;")):
			errs = append(errs, &fieldError{append(path, "header"), fmt.Sprintf("is %q: want a header field's name in lower case", k.Name)})
		case k.Kind == FromPathSegment && k.Index > 63:
			errs = append(errs, &fieldError{append(path, "pathSegment"), fmt.Sprintf("has index %d: want 0 to 63", k.Index)})
		}
		out = append(out, k)
	}
	*dst = out
	return errs
}
