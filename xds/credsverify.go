package xds

import (
	"errors"
	"fmt"
	"regexp"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
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
		sum, ok := compile.CertificateHash(s)
		if !ok {
			return nil, fmt.Errorf("verify_certificate_hash[%d]: %q is no SHA-256 in hexadecimal", i, s)
		}
		v.Hashes = append(v.Hashes, sum)
	}
	for i, s := range c.GetVerifyCertificateSpki() {
		sum, ok := compile.KeyHash(s)
		if !ok {
			return nil, fmt.Errorf("verify_certificate_spki[%d]: %q is no SHA-256 in base64", i, s)
		}
		v.Keys = append(v.Keys, sum)
	}
	return secure.NewVerifier(v, secure.Server)
}

func newSAN(kind tlsv3.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher) (s snapshot.NameMatcher, err error) {
	k, ok := compile.SubjectKind(kind)
	if !ok {
		return s, fmt.Errorf("san_type %s is not supported", kind)
	}
	var re *regexp.Regexp
	if by, ok := m.GetMatchPattern().(*matcherv3.StringMatcher_SafeRegex); ok {
		if re, err = regexp.Compile(`\A(?:` + by.SafeRegex.GetRegex() + `)\z`); err != nil {
			return s, err
		}
	}
	if s, ok = compile.SubjectMatcher(k, m, re); !ok {
		return s, fmt.Errorf("matcher %T is not supported", m.GetMatchPattern())
	}
	return s, nil
}
