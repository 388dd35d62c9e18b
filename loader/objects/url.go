package objects

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// address is where a bucket is, as s3://BUCKET/PREFIX?endpoint=…&region=…&addressing=… says.
type address struct {
	bucket, prefix string // prefix: "" or ending in a slash
	endpoint       string // host:port
	secure         bool
	region         string
	addressing     string // auto, path, virtual
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`) // Amazon S3 user guide, "General purpose bucket naming rules"
	regionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

// parseURL reads s. getenv supplies what it leaves out, by the names that AWS's own
// tools use.
func parseURL(s string, getenv func(string) string) (a address, err error) {
	fail := func(format string, args ...any) (address, error) {
		return address{}, fmt.Errorf("%q: %w; want s3://BUCKET/PREFIX?endpoint=URL&region=NAME&addressing=auto|path|virtual", s, fmt.Errorf(format, args...))
	}
	u, err := url.Parse(s)
	if err != nil {
		return fail("%w", errors.Unwrap(err))
	}
	if u.Scheme != "s3" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return fail("is no URL of a bucket (credentials do not belong in it)")
	}
	if a.bucket = u.Host; !bucketName.MatchString(a.bucket) {
		return fail("bucket %q: want 3 to 63 lower-case letters, digits, dots and dashes", a.bucket)
	}
	if a.prefix = strings.Trim(u.Path, "/"); a.prefix != "" {
		a.prefix += "/"
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains([]string{"endpoint", "region", "addressing"}, name) || len(q[name]) != 1 || q.Get(name) == "" {
			return fail("parameter %q: is unknown, empty or there twice", name)
		}
	}
	first := func(values ...string) string {
		i := slices.IndexFunc(values, func(v string) bool { return v != "" })
		return values[i]
	}
	if a.region = first(q.Get("region"), getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), "us-east-1"); !regionName.MatchString(a.region) {
		return fail("region %q: want lower-case letters, digits and dashes", a.region)
	}
	if a.addressing = first(q.Get("addressing"), "auto"); !slices.Contains([]string{"auto", "path", "virtual"}, a.addressing) {
		return fail("addressing %q", a.addressing)
	}
	end := first(q.Get("endpoint"), getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"), "https://s3."+a.region+".amazonaws.com")
	e, err := url.Parse(end)
	if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.User != nil {
		return fail("endpoint %q: want https://HOST:PORT, or http:// for one without TLS", end)
	}
	a.endpoint, a.secure = e.Host, e.Scheme == "https"
	return a, nil
}

// String returns the address as a drop's name begins.
func (a *address) String() string { return "s3://" + a.bucket + "/" + a.prefix }
