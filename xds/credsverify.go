package xds

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

// newVerifier returns what decides whether a server is who it should be.
func newVerifier(c *tlsv3.CertificateValidationContext) (*secure.Verifier, error) {
	// What is left out is about clients, revocation and things that only Envoy has.
	err := only(c, "", "trusted_ca", "system_root_certs", "watched_directory", "verify_certificate_spki", "verify_certificate_hash",
		"match_typed_subject_alt_names", "match_subject_alt_names", "trust_chain_verification", "max_verify_depth", "suppress_client_ca_list")
	if err != nil {
		return nil, err
	}
	v := &snapshot.Validation{
		Depth: -1, SystemRoots: c.GetSystemRootCerts() != nil,
		Untrusted: c.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
	}
	if c.GetTrustedCa() != nil {
		if v.Roots, err = pemOf(c.GetTrustedCa()); err != nil {
			return nil, fmt.Errorf("trusted_ca: %w", err)
		}
	}
	if d := c.GetMaxVerifyDepth(); d != nil {
		v.Depth = int(d.GetValue())
	}
	for i, m := range c.GetMatchTypedSubjectAltNames() {
		san, err := newSAN(m.GetSanType(), m.GetMatcher())
		if err != nil {
			return nil, fmt.Errorf("match_typed_subject_alt_names[%d]: %w", i, err)
		}
		v.Names = append(v.Names, san)
	}
	for i, m := range c.GetMatchSubjectAltNames() {
		san, err := newSAN(tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED, m)
		if err != nil {
			return nil, fmt.Errorf("match_subject_alt_names[%d]: %w", i, err)
		}
		v.Names = append(v.Names, san)
	}
	if len(v.Names) > 0 && !v.Roots.Set() && !v.SystemRoots {
		return nil, errors.New("names are matched without a trusted_ca: anybody could claim them")
	}
	for i, s := range c.GetVerifyCertificateHash() {
		sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("verify_certificate_hash[%d]: %q is no SHA-256 in hexadecimal", i, s)
		}
		v.Hashes = append(v.Hashes, sum)
	}
	for i, s := range c.GetVerifyCertificateSpki() {
		sum, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("verify_certificate_spki[%d]: %q is no SHA-256 in base64", i, s)
		}
		v.Keys = append(v.Keys, sum)
	}
	return secure.NewVerifier(v, secure.Server)
}

var nameKinds = map[tlsv3.SubjectAltNameMatcher_SanType]snapshot.NameKind{
	tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED: snapshot.NameAny,
	tlsv3.SubjectAltNameMatcher_URI:                  snapshot.NameURI,
	tlsv3.SubjectAltNameMatcher_DNS:                  snapshot.NameDNS,
	tlsv3.SubjectAltNameMatcher_IP_ADDRESS:           snapshot.NameIP,
	tlsv3.SubjectAltNameMatcher_EMAIL:                snapshot.NameEmail,
}

func newSAN(kind tlsv3.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher) (snapshot.NameMatcher, error) {
	s := snapshot.NameMatcher{Text: m.String()}
	var ok bool
	if s.Kind, ok = nameKinds[kind]; !ok {
		return s, fmt.Errorf("san_type %s is not supported", kind)
	}
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		want := fold(p.Exact)
		if ip := net.ParseIP(want); ip != nil {
			want = ip.String() // as the certificate's are written
		}
		s.Match = func(name string, dns bool) bool {
			return fold(name) == want || dns && wildcard(fold(name), want)
		}
	case *matcherv3.StringMatcher_Prefix:
		s.Match = func(name string, _ bool) bool { return strings.HasPrefix(fold(name), fold(p.Prefix)) }
	case *matcherv3.StringMatcher_Suffix:
		s.Match = func(name string, _ bool) bool { return strings.HasSuffix(fold(name), fold(p.Suffix)) }
	case *matcherv3.StringMatcher_Contains:
		s.Match = func(name string, _ bool) bool { return strings.Contains(fold(name), fold(p.Contains)) }
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile(`\A(?:` + p.SafeRegex.GetRegex() + `)\z`)
		if err != nil {
			return s, err
		}
		s.Match = func(name string, _ bool) bool { return re.MatchString(name) }
	default:
		return s, fmt.Errorf("matcher %T is not supported", p)
	}
	return s, nil
}

// wildcard reports whether a DNS name of a certificate, "*.example.com", covers
// a name: the star stands for one label.
func wildcard(pattern, name string) bool {
	suffix, ok := strings.CutPrefix(pattern, "*")
	if !ok || !strings.HasPrefix(suffix, ".") {
		return false
	}
	label, ok := strings.CutSuffix(name, suffix)
	return ok && label != "" && !strings.Contains(label, ".")
}
