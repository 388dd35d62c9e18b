package policy

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CacheConfig is what a response cache keeps. Its JSON names are the YAML keys
// and the fields of quadnine.policy.v1.ResponseCache.
type CacheConfig struct {
	// TTL is how old a stored answer may be when it is used: default 60 s.
	TTL time.Duration `json:"ttl"`
	// MaxBytes bounds what all answers together weigh, in bytes, with their
	// header fields, keys and bookkeeping: default 64 MiB, at least 64 kiB, at
	// most 1 TiB.
	MaxBytes int64 `json:"maxBytes"`
	// MaxBodyBytes bounds one answer's content, in bytes: default 1 MiB, at most
	// MaxBytes/2 and 1 GiB.
	MaxBodyBytes int `json:"maxBodyBytes"`
	// IdentityHeaders are the request fields, in lower case, that say who asks:
	// two requests that differ in one never share an answer. Default
	// authorization, cookie, proxy-authorization, x-api-key.
	IdentityHeaders []string `json:"identityHeaders"`
}

// DefaultCacheConfig returns the configuration with every default.
func DefaultCacheConfig() CacheConfig {
	return CacheConfig{
		TTL:             60 * time.Second,
		MaxBytes:        64 << 20,
		MaxBodyBytes:    1 << 20,
		IdentityHeaders: []string{"authorization", "cookie", "proxy-authorization", "x-api-key"},
	}
}

// maxIdentityName bounds the length of an identity field's name, in bytes.
const maxIdentityName = 64

// Validate reports every field that is out of bounds, each by its JSON name,
// as one joined error; nil when there is none.
func (c *CacheConfig) Validate() error {
	var v validation
	v.atLeast("ttl", c.TTL, time.Millisecond)
	v.between("maxBytes", c.MaxBytes, 64<<10, 1<<40)
	v.between("maxBodyBytes", int64(c.MaxBodyBytes), 1, max(1, min(c.MaxBytes/2, 1<<30)))
	for i, h := range c.IdentityHeaders {
		if len(h) >= maxIdentityName {
			v.add("identityHeaders["+strconv.Itoa(i)+"]", "is %d bytes long: want less than %d", len(h), maxIdentityName)
		}
		field := "identityHeaders[" + strconv.Itoa(i) + "]"
		switch {
		case h == "" || strings.ToLower(h) != h || strings.ContainsAny(h, " \t\r\n:,;"):
			v.add(field, "is %q: want a header field's name in lower case", h)
		case slices.Contains(c.IdentityHeaders[:i], h):
			v.add(field, "is %q for the second time", h)
		}
	}
	return errors.Join(v...)
}
