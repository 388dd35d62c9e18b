package xds

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// verifier decides whether a server is who it should be.
type verifier struct {
	roots  *x509.CertPool // nil: the chain is not verified
	source string         // of roots
	depth  int            // intermediates between the server's and a root; -1: any number
	names  []sanMatcher   // one of them must match; none: any name
	host   string         // must be a name of the certificate, unless empty
	hashes [][]byte       // SHA-256 of the certificate …
	keys   [][]byte       // … or of its public key; one of both must match
}

func newVerifier(c *tlsv3.CertificateValidationContext) (*verifier, error) {
	// What is left out is about clients, revocation and things that only Envoy has.
	err := only(c, "", "trusted_ca", "system_root_certs", "watched_directory", "verify_certificate_spki", "verify_certificate_hash",
		"match_typed_subject_alt_names", "match_subject_alt_names", "trust_chain_verification", "max_verify_depth", "suppress_client_ca_list")
	if err != nil {
		return nil, err
	}
	v := &verifier{depth: -1}
	switch {
	case c.GetTrustedCa() != nil:
		if v.roots, v.source, err = roots(c.GetTrustedCa()); err != nil {
			return nil, fmt.Errorf("trusted_ca: %w", err)
		}
	case c.GetSystemRootCerts() != nil:
		if v.roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("system_root_certs: %w", err)
		}
		v.source = "of the system"
	}
	if d := c.GetMaxVerifyDepth(); d != nil {
		v.depth = int(d.GetValue())
	}
	for i, m := range c.GetMatchTypedSubjectAltNames() {
		san, err := newSAN(m.GetSanType(), m.GetMatcher())
		if err != nil {
			return nil, fmt.Errorf("match_typed_subject_alt_names[%d]: %w", i, err)
		}
		v.names = append(v.names, san)
	}
	for i, m := range c.GetMatchSubjectAltNames() {
		san, err := newSAN(tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED, m)
		if err != nil {
			return nil, fmt.Errorf("match_subject_alt_names[%d]: %w", i, err)
		}
		v.names = append(v.names, san)
	}
	if len(v.names) > 0 && v.roots == nil {
		return nil, errors.New("names are matched without a trusted_ca: anybody could claim them")
	}
	for i, s := range c.GetVerifyCertificateHash() {
		sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("verify_certificate_hash[%d]: %q is no SHA-256 in hexadecimal", i, s)
		}
		v.hashes = append(v.hashes, sum)
	}
	for i, s := range c.GetVerifyCertificateSpki() {
		sum, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("verify_certificate_spki[%d]: %q is no SHA-256 in base64", i, s)
		}
		v.keys = append(v.keys, sum)
	}
	if c.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED {
		v.roots = nil
	}
	return v, nil
}

// verify is a tls.Config's VerifyConnection.
func (v *verifier) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	leaf := state.PeerCertificates[0]
	if v.roots != nil {
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: v.roots, Intermediates: between})
		if err != nil {
			return fmt.Errorf("the server's certificate for %s, issued by %q, is not trusted by trusted_ca %s: %w", namesOf(leaf), leaf.Issuer, v.source, err)
		}
		if v.depth >= 0 && !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return len(chain)-2 <= v.depth }) {
			return fmt.Errorf("the server's chain of certificates is longer than max_verify_depth %d", v.depth)
		}
	}
	if v.host != "" {
		if err := leaf.VerifyHostname(v.host); err != nil {
			return fmt.Errorf("auto_sni_san_validation: %w", err)
		}
	}
	if len(v.names) > 0 && !slices.ContainsFunc(v.names, func(m sanMatcher) bool { return m.matches(leaf) }) {
		return fmt.Errorf("the server's certificate is for %s, which no entry of match_typed_subject_alt_names matches", namesOf(leaf))
	}
	if len(v.hashes)+len(v.keys) > 0 {
		sum, key := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		is := func(sum [32]byte) func([]byte) bool { return func(b []byte) bool { return bytes.Equal(b, sum[:]) } }
		if !slices.ContainsFunc(v.hashes, is(sum)) && !slices.ContainsFunc(v.keys, is(key)) {
			return errors.New("the server's certificate is none of verify_certificate_hash and verify_certificate_spki")
		}
	}
	return nil
}

// namesOf lists a certificate's names for people.
func namesOf(c *x509.Certificate) string {
	all := make([]string, 0, 4)
	for _, kind := range sanKinds {
		all = append(all, namesIn(c, kind)...)
	}
	if len(all) == 0 {
		return fmt.Sprintf("subject %q", c.Subject)
	}
	return strings.Join(all, ", ")
}

var sanKinds = []tlsv3.SubjectAltNameMatcher_SanType{
	tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_IP_ADDRESS, tlsv3.SubjectAltNameMatcher_EMAIL,
}

func namesIn(c *x509.Certificate, kind tlsv3.SubjectAltNameMatcher_SanType) []string {
	var all []string
	switch kind {
	case tlsv3.SubjectAltNameMatcher_DNS:
		return c.DNSNames
	case tlsv3.SubjectAltNameMatcher_EMAIL:
		return c.EmailAddresses
	case tlsv3.SubjectAltNameMatcher_URI:
		for _, u := range c.URIs {
			all = append(all, u.String())
		}
	case tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
		for _, ip := range c.IPAddresses {
			all = append(all, ip.String())
		}
	}
	return all
}

// sanMatcher matches names of some kinds.
type sanMatcher struct {
	kinds []tlsv3.SubjectAltNameMatcher_SanType
	test  func(name string, dns bool) bool
}

func (m sanMatcher) matches(c *x509.Certificate) bool {
	for _, kind := range m.kinds {
		dns := kind == tlsv3.SubjectAltNameMatcher_DNS
		if slices.ContainsFunc(namesIn(c, kind), func(name string) bool { return m.test(name, dns) }) {
			return true
		}
	}
	return false
}

func newSAN(kind tlsv3.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher) (sanMatcher, error) {
	s := sanMatcher{kinds: []tlsv3.SubjectAltNameMatcher_SanType{kind}}
	switch kind {
	case tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED:
		s.kinds = sanKinds
	case tlsv3.SubjectAltNameMatcher_OTHER_NAME:
		return s, errors.New("san_type OTHER_NAME is not supported")
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
		s.test = func(name string, dns bool) bool {
			return fold(name) == want || dns && wildcard(fold(name), want)
		}
	case *matcherv3.StringMatcher_Prefix:
		s.test = func(name string, _ bool) bool { return strings.HasPrefix(fold(name), fold(p.Prefix)) }
	case *matcherv3.StringMatcher_Suffix:
		s.test = func(name string, _ bool) bool { return strings.HasSuffix(fold(name), fold(p.Suffix)) }
	case *matcherv3.StringMatcher_Contains:
		s.test = func(name string, _ bool) bool { return strings.Contains(fold(name), fold(p.Contains)) }
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile(`\A(?:` + p.SafeRegex.GetRegex() + `)\z`)
		if err != nil {
			return s, err
		}
		s.test = func(name string, _ bool) bool { return re.MatchString(name) }
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
