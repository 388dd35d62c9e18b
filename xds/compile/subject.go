package compile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net"
	"regexp"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// What a certificate is compared with is read in the same way for the data plane
// and for the management streams themselves, so these are exported.

// CertificateHash reads an entry of verify_certificate_hash: a SHA-256 in
// hexadecimal, with or without colons.
func CertificateHash(s string) (sum []byte, ok bool) {
	sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	return sum, err == nil && len(sum) == sha256.Size
}

// KeyHash reads an entry of verify_certificate_spki: a SHA-256 in base64.
func KeyHash(s string) (sum []byte, ok bool) {
	sum, err := base64.StdEncoding.DecodeString(s)
	return sum, err == nil && len(sum) == sha256.Size
}

// SubjectKind returns the names that a san_type is about; false for one that
// certificates are not compared by.
func SubjectKind(kind tlsv3.SubjectAltNameMatcher_SanType) (snapshot.NameKind, bool) {
	k, ok := subjectKinds[kind]
	return k, ok
}

// subjectKinds are by SubjectAltNameMatcher.san_type.
var subjectKinds = map[tlsv3.SubjectAltNameMatcher_SanType]snapshot.NameKind{
	tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED: snapshot.NameAny,
	tlsv3.SubjectAltNameMatcher_EMAIL:                snapshot.NameEmail,
	tlsv3.SubjectAltNameMatcher_DNS:                  snapshot.NameDNS,
	tlsv3.SubjectAltNameMatcher_URI:                  snapshot.NameURI,
	tlsv3.SubjectAltNameMatcher_IP_ADDRESS:           snapshot.NameIP,
}

// subject compiles a matcher of a certificate's names.
func (r *review) subject(out *snapshot.Validation, kind tlsv3.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher, p *at) {
	k, ok := SubjectKind(kind)
	if !ok {
		r.refuse(p.f("san_type"), kind.String(), "use URI, DNS, IP_ADDRESS or EMAIL")
		return
	}
	var re *regexp.Regexp
	if by, ok := m.GetMatchPattern().(*matcherv3.StringMatcher_SafeRegex); ok {
		if re = r.regex(by.SafeRegex, p.f("matcher").f("safe_regex")); re == nil {
			return
		}
	}
	n, ok := SubjectMatcher(k, m, re)
	if !ok {
		r.fail(p, "use exact, prefix, suffix, contains or safe_regex", "has no pattern")
		return
	}
	out.Names = append(out.Names, n)
}

// SubjectMatcher makes a matcher of a certificate's names of a kind. re is m's
// safe_regex, where that is its pattern. False: it has none.
func SubjectMatcher(kind snapshot.NameKind, m *matcherv3.StringMatcher, re *regexp.Regexp) (n snapshot.NameMatcher, ok bool) {
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	var text string
	switch by := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		want := fold(by.Exact)
		if ip := net.ParseIP(want); ip != nil {
			want = ip.String() // as the certificate's are written
		}
		text = by.Exact
		n.Match = func(name string, dns bool) bool {
			return fold(name) == want || dns && wildcard(fold(name), want)
		}
	case *matcherv3.StringMatcher_Prefix:
		want := fold(by.Prefix)
		text = by.Prefix + "*"
		n.Match = func(name string, _ bool) bool { return strings.HasPrefix(fold(name), want) }
	case *matcherv3.StringMatcher_Suffix:
		want := fold(by.Suffix)
		text = "*" + by.Suffix
		n.Match = func(name string, _ bool) bool { return strings.HasSuffix(fold(name), want) }
	case *matcherv3.StringMatcher_Contains:
		want := fold(by.Contains)
		text = "*" + by.Contains + "*"
		n.Match = func(name string, _ bool) bool { return strings.Contains(fold(name), want) }
	case *matcherv3.StringMatcher_SafeRegex:
		text = "~" + by.SafeRegex.GetRegex()
		n.Match = func(name string, _ bool) bool { return re.MatchString(name) }
	default:
		return n, false
	}
	n.Kind, n.Text = kind, kindNames[kind]+" "+text
	return n, true
}

// kindNames are for people.
var kindNames = map[snapshot.NameKind]string{
	snapshot.NameAny: "any name", snapshot.NameEmail: "email", snapshot.NameDNS: "dns", snapshot.NameURI: "uri", snapshot.NameIP: "ip_address",
}

// wildcard reports whether a DNS name of a certificate, "*.example.com", covers a
// name: the star stands for one label.
func wildcard(pattern, name string) bool {
	suffix, ok := strings.CutPrefix(pattern, "*")
	if !ok || !strings.HasPrefix(suffix, ".") {
		return false
	}
	label, ok := strings.CutSuffix(name, suffix)
	return ok && label != "" && !strings.Contains(label, ".")
}
