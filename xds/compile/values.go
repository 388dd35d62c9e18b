package compile

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/snapshot"
)

const (
	// maxSeconds is the longest duration that Envoy takes: more does not fit into
	// 64 bits of nanoseconds.
	maxSeconds = 9_223_372_036

	// forever stands for every longer duration, so that a time plus a duration
	// never overflows.
	forever = 100 * 365 * 24 * time.Hour
)

// duration converts d, or returns def when it is not set.
func (r *review) duration(d *durationpb.Duration, p *at, def time.Duration) time.Duration {
	switch {
	case d == nil:
		return def
	case d.CheckValid() != nil || d.GetSeconds() < 0 || d.GetNanos() < 0:
		r.fail(p, "", "is no duration: want 0s or more")
		return def
	case d.GetSeconds() >= maxSeconds:
		r.fail(p, "unset it, or use 0s where that means none", "is %ds: want less than %ds", d.GetSeconds(), maxSeconds)
		return def
	case d.GetSeconds() >= int64(forever/time.Second):
		return forever
	}
	return d.AsDuration()
}

// source returns what an inline data source holds.
func source(d *corev3.DataSource) []byte {
	if b := d.GetInlineBytes(); b != nil {
		return b
	}
	return []byte(d.GetInlineString())
}

// address returns a as host:port. names allows a host that is no IP address.
func (r *review) address(a *corev3.Address, p *at, names bool) string {
	s := a.GetSocketAddress()
	if s == nil {
		r.fail(p, "set socket_address", "is not set")
		return ""
	}
	if _, err := netip.ParseAddr(s.GetAddress()); err != nil && !names {
		r.fail(p.f("socket_address").f("address"), "use an IP address; names need a cluster of type STRICT_DNS", "malformed IP address: %s", s.GetAddress())
		return ""
	}
	return net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(s.GetPortValue()), 10))
}

// regex compiles a pattern that must match the whole of a string.
func (r *review) regex(m *matcherv3.RegexMatcher, p *at) *regexp.Regexp {
	re, err := snapshot.WholeRegexp(m.GetRegex())
	if err != nil {
		r.badPattern(err, p)
		return nil
	}
	return re
}

// pattern compiles a pattern that may match anywhere.
func (r *review) pattern(m *matcherv3.RegexMatcher, p *at) *regexp.Regexp {
	re, err := regexp.Compile(m.GetRegex())
	if err != nil {
		r.badPattern(err, p)
		return nil
	}
	return re
}

func (r *review) badPattern(err error, p *at) {
	r.fail(p.f("regex"), "patterns are RE2's: without lookahead and back references", "%v", err)
}

// rewrite compiles a pattern with what takes its place.
func (r *review) rewrite(m *matcherv3.RegexMatchAndSubstitute, p *at) *snapshot.RegexRewrite {
	if m == nil {
		return nil
	}
	re := r.pattern(m.GetPattern(), p.f("pattern"))
	if re == nil {
		return nil
	}
	text, note, err := snapshot.Substitution(m.GetSubstitution(), re.NumSubexp())
	if err != nil {
		r.fail(p.f("substitution"), "", "%v", err)
		return nil
	}
	if note != "" {
		r.ignore(p.f("substitution"), m.GetSubstitution(), note)
	}
	return &snapshot.RegexRewrite{Pattern: re, Substitution: text}
}

// format compiles a string with command operators.
func (r *review) format(s string, p *at) snapshot.Format {
	f, err := snapshot.ParseFormat(s)
	if err != nil {
		r.fail(p, "", "%v", err)
	}
	return f
}

// fraction converts a share that a runtime key may override.
func fraction(f *corev3.RuntimeFractionalPercent) *snapshot.Fraction {
	if f == nil {
		return nil
	}
	d := uint32(100)
	switch f.GetDefaultValue().GetDenominator().String() {
	case "TEN_THOUSAND":
		d = 10_000
	case "MILLION":
		d = 1_000_000
	}
	return &snapshot.Fraction{Key: f.GetRuntimeKey(), Numerator: f.GetDefaultValue().GetNumerator(), Denominator: d}
}
