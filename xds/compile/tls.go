package compile

import (
	"cmp"
	"crypto/tls"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// The messages of transport sockets.
const (
	plainSocket   = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	downstreamTLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	upstreamTLS   = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
)

// sockets are the contexts of one resource by their bytes: what did not change stays
// the same pointer, and with it what the data plane has made of it.
type sockets map[string]*snapshot.TLS

// socket compiles a transport socket; want is the TLS context that may stand there.
// Nil is plain text.
func (r *review) socket(s *corev3.TransportSocket, want string, p *at) *snapshot.TLS {
	if s == nil {
		return nil
	}
	at := p.f("typed_config")
	x, ok := r.open(s.GetTypedConfig(), at)
	switch {
	case !ok, x.name == plainSocket, x.name == "" && s.GetName() == "envoy.transport_sockets.raw_buffer":
		return nil
	case x.name != want:
		r.refuse(p, nameOf(s.GetName(), x), "use envoy.transport_sockets.tls with "+want[strings.LastIndexByte(want, '.')+1:]+", or envoy.transport_sockets.raw_buffer")
		return nil
	}
	out := new(snapshot.TLS)
	var key []byte
	if want == downstreamTLS {
		m := new(tlsv3.DownstreamTlsContext)
		if !r.into(x, m, at) {
			return nil
		}
		key = canonical(m)
		r.downstream(m, out, at)
	} else {
		m := new(tlsv3.UpstreamTlsContext)
		if !r.into(x, m, at) {
			return nil
		}
		key = canonical(m)
		r.upstream(m, out, at)
	}
	out = cmp.Or(r.secures[string(key)], r.secured[string(key)], out) // chains that say the same share it
	if r.secures == nil {
		r.secures = make(sockets)
	}
	r.secures[string(key)] = out
	return out
}

// downstream compiles what callers of a filter chain get.
func (r *review) downstream(m *tlsv3.DownstreamTlsContext, out *snapshot.TLS, p *at) {
	out.RequireClient = m.GetRequireClientCertificate().GetValue()
	out.NoTickets = m.GetDisableStatelessSessionResumption()
	common := p.f("common_tls_context")
	r.common(m.GetCommonTlsContext(), out, common)
	if len(out.Certificates)+len(out.CertificateRefs) == 0 {
		r.fail(common, "set tls_certificates, or tls_certificate_sds_secret_configs", "No TLS certificates found for server context")
	}
	r.verified(out, common)
}

// upstream compiles what a cluster's endpoints get.
func (r *review) upstream(m *tlsv3.UpstreamTlsContext, out *snapshot.TLS, p *at) {
	out.SNI, out.SNIFromHost, out.VerifySNI = m.GetSni(), m.GetAutoHostSni(), m.GetAutoSniSanValidation()
	if strings.ContainsRune(out.SNI, 0) {
		r.fail(p.f("sni"), "", "SNI names containing NULL-byte are not allowed")
	}
	common := p.f("common_tls_context")
	r.common(m.GetCommonTlsContext(), out, common)
	if n := len(out.Certificates) + len(out.CertificateRefs); n > 1 {
		r.fail(common.f("tls_certificates"), "use one", "Multiple TLS certificates are not supported for client contexts")
	}
	r.verified(out, common)
	if trusted(out) {
		return
	}
	if out.VerifySNI {
		r.fail(p.f("auto_sni_san_validation"), "set a validation_context with a trusted_ca", "'auto_sni_san_validation' was configured without a validation context")
	}
}

// trusted reports whether t verifies chains, or a secret may say that it does.
func trusted(t *snapshot.TLS) bool {
	return t.ValidationRef != nil || t.Validation != nil && (t.Validation.Roots.Set() || t.Validation.SystemRoots)
}

// verified refuses to match names that anybody could claim.
func (r *review) verified(t *snapshot.TLS, p *at) {
	if t.Validation != nil && len(t.Validation.Names) > 0 && !trusted(t) {
		r.fail(p.f("validation_context"), "set trusted_ca", "SAN-based verification of peer certificates without trusted CA is insecure and not allowed")
	}
}

// common compiles what both sides have.
func (r *review) common(m *tlsv3.CommonTlsContext, out *snapshot.TLS, p *at) {
	r.parameters(m.GetTlsParams(), out, p.f("tls_params"))
	out.ALPN = m.GetAlpnProtocols()
	for i, name := range out.ALPN {
		if name == "" || len(name) > 255 {
			r.fail(p.i("alpn_protocols", i), "use names like h2 and http/1.1", "Invalid ALPN protocol string")
		}
	}
	for i, c := range m.GetTlsCertificates() {
		if one := r.certificate(c, p.i("tls_certificates", i)); one != nil {
			out.Certificates = append(out.Certificates, *one)
		}
	}
	for i, c := range m.GetTlsCertificateSdsSecretConfigs() {
		out.CertificateRefs = append(out.CertificateRefs, r.secretRef(c, p.i("tls_certificate_sds_secret_configs", i)))
	}
	if len(out.Certificates) > 0 && len(out.CertificateRefs) > 0 {
		r.fail(p.f("tls_certificate_sds_secret_configs"), "use one of both", "it stands beside tls_certificates, and Envoy takes neither with the other")
	}
	switch v := m.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContext:
		out.Validation = r.validation(v.ValidationContext, p.f("validation_context"))
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		out.ValidationRef = new(r.secretRef(v.ValidationContextSdsSecretConfig, p.f("validation_context_sds_secret_config")))
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		at := p.f("combined_validation_context")
		out.Validation = r.validation(v.CombinedValidationContext.GetDefaultValidationContext(), at.f("default_validation_context"))
		out.ValidationRef = new(r.secretRef(v.CombinedValidationContext.GetValidationContextSdsSecretConfig(), at.f("validation_context_sds_secret_config")))
	}
}

// tlsVersions are Envoy's names; 0 is what Go takes by itself.
var tlsVersions = map[tlsv3.TlsParameters_TlsProtocol]uint16{
	tlsv3.TlsParameters_TLS_AUTO: 0,
	tlsv3.TlsParameters_TLSv1_0:  tls.VersionTLS10,
	tlsv3.TlsParameters_TLSv1_1:  tls.VersionTLS11,
	tlsv3.TlsParameters_TLSv1_2:  tls.VersionTLS12,
	tlsv3.TlsParameters_TLSv1_3:  tls.VersionTLS13,
}

var tlsCurves = map[string]tls.CurveID{
	"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519MLKEM768": tls.X25519MLKEM768,
}

// tlsSuites are those of TLS 1.2 that Go has, by BoringSSL's names. Those of TLS 1.3
// cannot be chosen, here and there.
var tlsSuites = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	"AES128-GCM-SHA256":             tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	"AES256-GCM-SHA384":             tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	"AES128-SHA":                    tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	"AES256-SHA":                    tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// TLSVersion returns Go's number for a version of TLS, 0 for Go's own bound. False:
// Envoy has none of that name.
func TLSVersion(v tlsv3.TlsParameters_TlsProtocol) (uint16, bool) {
	id, ok := tlsVersions[v]
	return id, ok
}

// TLSCurve returns a curve by BoringSSL's name.
func TLSCurve(name string) (tls.CurveID, bool) {
	id, ok := tlsCurves[name]
	return id, ok
}

// TLSSuite returns a suite of TLS 1.2 by BoringSSL's name.
func TLSSuite(name string) (uint16, bool) {
	id, ok := tlsSuites[name]
	return id, ok
}

func (r *review) parameters(m *tlsv3.TlsParameters, out *snapshot.TLS, p *at) {
	out.MinVersion, out.MaxVersion = tlsVersions[m.GetTlsMinimumProtocolVersion()], tlsVersions[m.GetTlsMaximumProtocolVersion()]
	low := out.MinVersion
	if low == 0 {
		low = tls.VersionTLS12
	}
	if out.MaxVersion != 0 && out.MaxVersion < low {
		r.fail(p.f("tls_maximum_protocol_version"), "set tls_minimum_protocol_version too: it is TLSv1_2 by default", "is older than the oldest version that is taken")
	}
	for i, entry := range m.GetCipherSuites() {
		for name := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"), "|") {
			id, ok := tlsSuites[name]
			if !ok {
				r.refuse(p.i("cipher_suites", i), name, "use "+strings.Join(slices.Sorted(maps.Keys(tlsSuites)), ", "))
				continue
			}
			out.CipherSuites = append(out.CipherSuites, id)
		}
	}
	for i, name := range m.GetEcdhCurves() {
		id, ok := tlsCurves[name]
		if !ok {
			r.refuse(p.i("ecdh_curves", i), name, "use "+strings.Join(slices.Sorted(maps.Keys(tlsCurves)), ", "))
			continue
		}
		out.Curves = append(out.Curves, id)
	}
}

// secretRef compiles the name of a secret and who supplies it.
func (r *review) secretRef(m *tlsv3.SdsSecretConfig, p *at) snapshot.SecretRef {
	from := m.GetSdsConfig()
	out := snapshot.SecretRef{Name: m.GetName(), Fetch: r.duration(from.GetInitialFetchTimeout(), p.f("sds_config").f("initial_fetch_timeout"), fetchTimeout)}
	at := p.f("sds_config")
	switch k := from.GetConfigSourceSpecifier().(type) {
	case nil:
		if from != nil {
			r.fail(at, "use ads, api_config_source or path_config_source", "names no source")
		}
		out.Source.Static = true
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
	case *corev3.ConfigSource_PathConfigSource:
		out.Source.Path, out.Source.Watch = k.PathConfigSource.GetPath(), k.PathConfigSource.GetWatchedDirectory().GetPath()
	case *corev3.ConfigSource_Path:
		out.Source.Path = k.Path
	case *corev3.ConfigSource_ApiConfigSource:
		out.Source.Stream = r.stream(k.ApiConfigSource, at.f("api_config_source"))
	}
	return out
}

// stream returns the source of a stream that carries secrets only, encoded.
func (r *review) stream(m *corev3.ApiConfigSource, p *at) string {
	switch m.GetApiType() {
	case corev3.ApiConfigSource_GRPC, corev3.ApiConfigSource_DELTA_GRPC:
	default:
		r.refuse(p.f("api_type"), m.GetApiType().String(), "use GRPC or DELTA_GRPC")
	}
	if len(m.GetGrpcServices()) != 1 {
		r.fail(p.f("grpc_services"), "name one", "GRPC must have a single gRPC service specified")
	}
	wire, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m)
	if err != nil {
		r.fail(p, "", "%v", err)
	}
	return string(wire)
}
