package compile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// Secret compiles an envoy.extensions.transport_sockets.tls.v3.Secret. What stands in
// it is read, and what it names is not: files belong to the machine that uses them.
func (c *Compiler) Secret(wire []byte) (_ *snapshot.Secret, _ Notes, err error) {
	name := NameIn(wire)
	defer rescue(typeSecret, name, c.ForgetSecret, &err)
	old := c.secrets[name]
	if old != nil && bytes.Equal(old.wire, wire) {
		return old.value, old.notes, nil
	}
	r, m := c.review(typeSecret, name), new(tlsv3.Secret)
	if !r.unmarshal(wire, m, nil) {
		return nil, r.notes, r.err()
	}
	canon := canonical(m)
	if old != nil && old.same(canon, new(tlsv3.Secret)) {
		old.wire = wire
		return old.value, old.notes, nil
	}
	out := &snapshot.Secret{Name: m.GetName()}
	if r.check(m, nil) {
		var p *at
		switch s := m.GetType().(type) {
		case *tlsv3.Secret_TlsCertificate:
			out.Certificate = r.certificate(s.TlsCertificate, p.f("tls_certificate"))
		case *tlsv3.Secret_ValidationContext:
			out.Validation = r.validation(s.ValidationContext, p.f("validation_context"))
		default:
			r.fail(p, "set tls_certificate or validation_context", "holds nothing")
		}
	}
	if r.failed() {
		return nil, r.notes, r.err()
	}
	c.secrets[name] = &kept[*snapshot.Secret]{wire, canon, out, r.notes, nil}
	return out, r.notes, nil
}

// ForgetSecret drops what is kept of a secret.
func (c *Compiler) ForgetSecret(name string) { delete(c.secrets, name) }

// pem compiles where PEM blocks come from.
func (r *review) pem(d *corev3.DataSource, p *at) snapshot.PEM {
	switch s := d.GetSpecifier().(type) {
	case *corev3.DataSource_Filename:
		return snapshot.PEM{Path: s.Filename}
	case *corev3.DataSource_InlineBytes, *corev3.DataSource_InlineString:
		return snapshot.PEM{Bytes: source(d)}
	}
	r.fail(p, "set inline_string, inline_bytes or filename", "is not set")
	return snapshot.PEM{}
}

// certificate compiles a chain with its key; nil when it cannot be used.
func (r *review) certificate(m *tlsv3.TlsCertificate, p *at) *snapshot.Certificate {
	before := len(r.errs)
	out := &snapshot.Certificate{
		Chain: r.pem(m.GetCertificateChain(), p.f("certificate_chain")),
		Key:   r.pem(m.GetPrivateKey(), p.f("private_key")),
		Watch: m.GetWatchedDirectory().GetPath(),
	}
	if len(r.errs) > before {
		return nil
	}
	// Errors of crypto/tls say what is wrong with a key and nothing of it.
	switch chain, key := out.Chain, out.Key; {
	case chain.Path == "" && key.Path == "":
		if err := goodChain(chain.Bytes); err != nil {
			r.fail(p.f("certificate_chain"), "give certificates in PEM, the own one first", "Failed to load certificate chain: %v", err)
		} else if _, err := tls.X509KeyPair(chain.Bytes, key.Bytes); err != nil {
			r.fail(p.f("private_key"), "give the key of the first certificate, in PEM and not encrypted", "Failed to load private key: %v", err)
		}
	case chain.Path == "":
		if err := goodChain(chain.Bytes); err != nil {
			r.fail(p.f("certificate_chain"), "give certificates in PEM, the own one first", "Failed to load certificate chain: %v", err)
		}
	case key.Path == "" && !hasBlock(key.Bytes, "PRIVATE KEY"):
		r.fail(p.f("private_key"), "give the key in PEM", "Failed to load private key: there is none")
	}
	return out
}

var errNoCertificate = errors.New("there is no certificate in PEM")

// goodChain reads all certificates of a chain.
func goodChain(data []byte) error {
	if !hasBlock(data, "CERTIFICATE") {
		return errNoCertificate
	}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return err
			}
		}
		data = rest
	}
}

// hasBlock reports whether data has a PEM block of a type that ends like this.
func hasBlock(data []byte, suffix string) bool {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return false
		}
		if strings.HasSuffix(block.Type, suffix) {
			return true
		}
		data = rest
	}
}

// validation compiles how a peer is verified.
func (r *review) validation(m *tlsv3.CertificateValidationContext, p *at) *snapshot.Validation {
	out := &snapshot.Validation{
		SystemRoots: m.GetSystemRootCerts() != nil,
		Untrusted:   m.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
		Depth:       -1,
		Watch:       m.GetWatchedDirectory().GetPath(),
	}
	if m.GetTrustedCa() != nil {
		out.Roots = r.pem(m.GetTrustedCa(), p.f("trusted_ca"))
		if out.Roots.Path == "" {
			if err := goodChain(out.Roots.Bytes); err != nil {
				r.fail(p.f("trusted_ca"), "give certificates in PEM", "Failed to load trusted CA certificates: %v", err)
			}
		}
	}
	if d := m.GetMaxVerifyDepth(); d != nil {
		out.Depth = int(d.GetValue())
	}
	for i, n := range m.GetMatchTypedSubjectAltNames() {
		r.subject(out, n.GetSanType(), n.GetMatcher(), p.i("match_typed_subject_alt_names", i))
	}
	for i, n := range m.GetMatchSubjectAltNames() {
		r.subject(out, tlsv3.SubjectAltNameMatcher_SAN_TYPE_UNSPECIFIED, n, p.i("match_subject_alt_names", i))
	}
	for i, s := range m.GetVerifyCertificateHash() {
		sum, ok := CertificateHash(s)
		if !ok {
			r.fail(p.i("verify_certificate_hash", i), "write the SHA-256 of the certificate in hexadecimal", "Invalid hex-encoded SHA-256 %s", s)
			continue
		}
		out.Hashes = append(out.Hashes, sum)
	}
	for i, s := range m.GetVerifyCertificateSpki() {
		sum, ok := KeyHash(s)
		if !ok {
			r.fail(p.i("verify_certificate_spki", i), "write the SHA-256 of the public key in base64", "Invalid base64-encoded SHA-256 %s", s)
			continue
		}
		out.Keys = append(out.Keys, sum)
	}
	return out
}
