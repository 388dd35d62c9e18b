package xds

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
)

type (
	fieldDescriptor = protoreflect.FieldDescriptor
	fieldValue      = protoreflect.Value
)

// upstreamTLS makes TLS configurations of Envoy's.
type upstreamTLS struct {
	context *tlsv3.UpstreamTlsContext
	secrets func(name string) *tlsv3.Secret
}

// check refuses what would have to be followed and is not.
func (u upstreamTLS) check() error {
	const common = "common_tls_context"
	c := u.context.GetCommonTlsContext()
	return errors.Join(
		// Renegotiation is not offered, sessions are not resumed, and Go verifies key
		// usage: nothing is lost by ignoring them. Our SNI is a name, never a host's.
		only(u.context, "", common, "sni", "auto_sni_san_validation", "allow_renegotiation", "max_session_keys", "enforce_rsa_key_usage"),
		only(c, common, "tls_params", "tls_certificates", "tls_certificate_sds_secret_configs", "alpn_protocols",
			"validation_context", "validation_context_sds_secret_config", "combined_validation_context"),
		only(c.GetTlsParams(), common+".tls_params", "tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"),
		only(c.GetCombinedValidationContext(), common+".combined_validation_context", "default_validation_context", "validation_context_sds_secret_config"),
	)
}

// config reads everything and returns the configuration of one handshake.
func (u upstreamTLS) config() (*tls.Config, error) {
	common := u.context.GetCommonTlsContext()
	config := &tls.Config{
		ServerName:         u.context.GetSni(),
		NextProtos:         common.GetAlpnProtocols(),
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, by the validation context
	}
	if err := parameters(config, common.GetTlsParams()); err != nil {
		return nil, err
	}
	certificates := common.GetTlsCertificates()
	for _, sds := range common.GetTlsCertificateSdsSecretConfigs() {
		secret, err := u.secret(sds)
		if err != nil {
			return nil, err
		}
		if secret.GetTlsCertificate() == nil {
			return nil, fmt.Errorf("secret %q is no tls_certificate", sds.GetName())
		}
		certificates = append(slices.Clip(certificates), secret.GetTlsCertificate())
	}
	for _, certificate := range certificates {
		if err := only(certificate, "tls_certificate", "certificate_chain", "private_key", "watched_directory"); err != nil {
			return nil, err
		}
		pair, err := keyPair(certificate.GetCertificateChain(), certificate.GetPrivateKey())
		if err != nil {
			return nil, err
		}
		config.Certificates = append(config.Certificates, pair)
	}
	trust, err := u.validation(common)
	if err != nil || trust == nil {
		return config, err
	}
	v, err := newVerifier(trust)
	if err != nil {
		return nil, fmt.Errorf("validation_context: %w", err)
	}
	if u.context.GetAutoSniSanValidation() {
		v = v.Named(u.context.GetSni())
	}
	config.VerifyConnection = v.Verify
	return config, nil
}

// validation returns how the server is verified, or nil if it is not.
func (u upstreamTLS) validation(common *tlsv3.CommonTlsContext) (*tlsv3.CertificateValidationContext, error) {
	var sds *tlsv3.SdsSecretConfig
	var base *tlsv3.CertificateValidationContext
	switch v := common.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContext:
		return v.ValidationContext, nil
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		sds = v.ValidationContextSdsSecretConfig
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		base = v.CombinedValidationContext.GetDefaultValidationContext()
		sds = v.CombinedValidationContext.GetValidationContextSdsSecretConfig()
	default:
		return nil, nil
	}
	if sds == nil {
		return base, nil
	}
	secret, err := u.secret(sds)
	if err != nil {
		return nil, err
	}
	if secret.GetValidationContext() == nil {
		return nil, fmt.Errorf("secret %q is no validation_context", sds.GetName())
	}
	if base == nil {
		return secret.GetValidationContext(), nil
	}
	merged := proto.CloneOf(base) // as Envoy does: singular fields are replaced, lists joined
	proto.Merge(merged, secret.GetValidationContext())
	return merged, nil
}

// suites are those of TLS 1.2 that a management stream may use: what has forward
// secrecy and authenticated encryption. Those of TLS 1.3 are not configurable.
var suites = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
	"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
}

func parameters(config *tls.Config, p *tlsv3.TlsParameters) error {
	low, ok := compile.TLSVersion(p.GetTlsMinimumProtocolVersion())
	high, ok2 := compile.TLSVersion(p.GetTlsMaximumProtocolVersion())
	if !ok || !ok2 {
		return fmt.Errorf("tls_params: versions %v to %v: unknown", p.GetTlsMinimumProtocolVersion(), p.GetTlsMaximumProtocolVersion())
	}
	config.MinVersion, config.MaxVersion = max(low, tls.VersionTLS12), high
	if high != 0 && high < config.MinVersion {
		return fmt.Errorf("tls_params.tls_maximum_protocol_version: %v: management streams use TLS 1.2 at least", p.GetTlsMaximumProtocolVersion())
	}
	for i, name := range p.GetCipherSuites() {
		list, err := alternatives(name)
		if err != nil {
			return fmt.Errorf("tls_params.cipher_suites[%d]: %w", i, err)
		}
		config.CipherSuites = append(config.CipherSuites, list...)
	}
	for i, name := range p.GetEcdhCurves() {
		curve, ok := compile.TLSCurve(name)
		if !ok {
			return fmt.Errorf("tls_params.ecdh_curves[%d]: %q is not supported", i, name)
		}
		config.CurvePreferences = append(config.CurvePreferences, curve)
	}
	return nil
}

// alternatives reads one entry of cipher_suites, which may be several of equal
// worth: "[A|B]".
func alternatives(entry string) ([]uint16, error) {
	var all []uint16
	for name := range strings.SplitSeq(strings.Trim(entry, "[]"), "|") {
		id, ok := compile.TLSSuite(name)
		if !ok || !slices.Contains(suites, name) {
			return nil, fmt.Errorf("%q is not supported: supported are %s", name, strings.Join(suites, ", "))
		}
		all = append(all, id)
	}
	return all, nil
}

// keyPair reads a certificate chain and its key.
func keyPair(chain, key *corev3.DataSource) (tls.Certificate, error) {
	c, err := pemOf(chain)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate_chain: %w", err)
	}
	k, err := pemOf(key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("private_key: %w", err)
	}
	return secure.ReadPair(snapshot.Certificate{Chain: c, Key: k})
}

// pemOf returns a data source as those of files are read: that of a variable is
// read now.
func pemOf(source *corev3.DataSource) (snapshot.PEM, error) {
	if f, ok := source.GetSpecifier().(*corev3.DataSource_Filename); ok {
		return snapshot.PEM{Path: f.Filename}, nil
	}
	data, err := read(source)
	return snapshot.PEM{Bytes: data}, err
}

// read returns what a data source holds.
func read(source *corev3.DataSource) ([]byte, error) {
	switch s := source.GetSpecifier().(type) {
	case *corev3.DataSource_Filename:
		return os.ReadFile(s.Filename)
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes, nil
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString), nil
	case *corev3.DataSource_EnvironmentVariable:
		value, ok := os.LookupEnv(s.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", s.EnvironmentVariable)
		}
		return []byte(value), nil
	default:
		return nil, errors.New("there is neither a filename nor inline data")
	}
}
