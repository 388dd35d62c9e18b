package compile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// contextOf is a transport socket in JSON.
func contextOf(side, fields string) string {
	return `{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.` + side + `TlsContext",` + fields + `}}`
}

// withTLS is a listener whose chain says more.
func withTLS(chain string) string {
	return strings.Replace(withManager(""), `"filterChains":[{`, `"filterChains":[{`+chain+`,`, 1)
}

// chainsOf is a listener with these chains, each of which says more than its manager.
func chainsOf(chains ...string) string {
	one := withManager("")
	begin := strings.Index(one, `{"filters"`)
	filters := one[begin+1 : len(one)-len(`}]}`)]
	var all []string
	for _, c := range chains {
		all = append(all, "{"+c+","+filters+"}")
	}
	return strings.Replace(one[:begin], `"filterChains"`, `"listenerFilters":[{"name":"i","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],"filterChains"`, 1) + strings.Join(all, ",") + "]}"
}

// Each verdict is Envoy's, unless the field is not supported here.
func TestVerdictsOfTLS(t *testing.T) {
	ca := testkit.NewCA(t, "ca")
	text := func(b []byte) string { j, _ := json.Marshal(string(b)); return string(j) }
	pair, other := ca.Issue("a.test"), ca.Issue("b.test")
	certificate := fmt.Sprintf(`{"certificateChain":{"inlineString":%s},"privateKey":{"inlineString":%s}}`, text(pair.Cert), text(pair.Key))
	own := `"tlsCertificates":[` + certificate + `]`
	trust := fmt.Sprintf(`"trustedCa":{"inlineString":%s}`, text(ca.PEM))
	server := func(fields string) string {
		if fields != "" {
			fields = "," + fields
		}
		return withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{`+own+fields+`}`))
	}
	client := func(fields string) string { return cluster(`"transportSocket":` + contextOf("Upstream", fields)) }
	const common = "transport_socket.typed_config.common_tls_context"
	const chain = "filter_chains[0]." + common
	const match = "filter_chains[1].filter_chain_match"
	named := func(name string) string {
		return `"filterChainMatch":{"serverNames":["` + name + `"]}`
	}
	for _, tc := range []struct {
		name, kind, text string
		path, reason     string // both "": taken
	}{
		{"server", "listener", server(""), "", ""},
		{"server without a certificate", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{}`)), chain, "No TLS certificates found for server context"},
		{"server with a client's context", "listener", withTLS(`"transportSocket":` + contextOf("Upstream", `"sni":"x"`)), "filter_chains[0].transport_socket", "unsupported (set to tls)"},
		{"unknown socket", "listener", withTLS(`"transportSocket":{"name":"envoy.transport_sockets.tls"}`), "filter_chains[0].transport_socket", "unsupported (set to envoy.transport_sockets.tls)"},
		{"certificate that is none", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":"x"},"privateKey":{"inlineString":`+text(pair.Key)+`}}]}`)), chain + ".tls_certificates[0].certificate_chain", "Failed to load certificate chain"},
		{"key of another certificate", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":`+text(pair.Cert)+`},"privateKey":{"inlineString":`+text(other.Key)+`}}]}`)), chain + ".tls_certificates[0].private_key", "does not match"},
		{"certificate without a key", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":`+text(pair.Cert)+`}}]}`)), chain + ".tls_certificates[0].private_key", "is not set"},
		{"certificate from the environment", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"environmentVariable":"X"}}]}`)), chain + ".tls_certificates[0].certificate_chain.environment_variable", "unsupported"},
		{"certificate by PKCS 12", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificates":[{"pkcs12":{"filename":"x"}}]}`)), chain + ".tls_certificates[0].pkcs12", "unsupported"},
		{"names without a CA", "listener", server(`"validationContext":{"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"exact":"x"}}]}`), chain + ".validation_context", "insecure and not allowed"},
		{"names with a CA", "listener", server(`"validationContext":{` + trust + `,"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"exact":"x"}}]}`), "", ""},
		{"names of another kind", "listener", server(`"validationContext":{` + trust + `,"matchTypedSubjectAltNames":[{"sanType":"OTHER_NAME","matcher":{"exact":"x"},"oid":"1.2"}]}`), chain + ".validation_context.match_typed_subject_alt_names[0].oid", "unsupported"},
		{"name of no kind", "listener", server(`"validationContext":{` + trust + `,"matchTypedSubjectAltNames":[{"matcher":{"exact":"x"}}]}`), chain + ".validation_context.match_typed_subject_alt_names[0].san_type", "must not be in list"},
		{"CA that is none", "listener", server(`"validationContext":{"trustedCa":{"inlineString":"x"}}`), chain + ".validation_context.trusted_ca", "Failed to load trusted CA certificates"},
		{"hash that is none", "listener", server(`"validationContext":{"verifyCertificateHash":["` + strings.Repeat("x", 64) + `"]}`), chain + ".validation_context.verify_certificate_hash[0]", "Invalid hex-encoded SHA-256"},
		{"key that is none", "listener", server(`"validationContext":{"verifyCertificateSpki":["` + strings.Repeat("*", 44) + `"]}`), chain + ".validation_context.verify_certificate_spki[0]", "Invalid base64-encoded SHA-256"},
		{"revocation", "listener", server(`"validationContext":{` + trust + `,"crl":{"filename":"x"}}`), chain + ".validation_context.crl", "unsupported"},
		{"secret with a zero byte in its name", "listener", server(`"validationContextSdsSecretConfig":{"name":"a\u0000b","sdsConfig":{"ads":{}}}`), chain + ".validation_context_sds_secret_config.name", "zero byte"},
		{"table with a zero byte in its name", "listener", withManager(`"rds":{"configSource":{"ads":{},"resourceApiVersion":"V3"},"routeConfigName":"\u0000a"}`), "filter_chains[0].filters[0].typed_config.rds.route_config_name", "zero byte"},
		{"unknown suite", "listener", server(`"tlsParams":{"cipherSuites":["ECDHE-RSA-AES128-GCM-SHA256","DES-CBC3-SHA"]}`), chain + ".tls_params.cipher_suites[1]", "unsupported (set to DES-CBC3-SHA)"},
		{"unknown curve", "listener", server(`"tlsParams":{"ecdhCurves":["P-224"]}`), chain + ".tls_params.ecdh_curves[0]", "unsupported (set to P-224)"},
		{"versions backwards", "listener", server(`"tlsParams":{"tlsMaximumProtocolVersion":"TLSv1_1"}`), chain + ".tls_params.tls_maximum_protocol_version", "older than the oldest"},
		{"written keys", "listener", server(`"keyLog":{"path":"x"}`), chain + ".key_log", "unsupported"},
		{"tickets with keys", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"sessionTimeout":"60s","sessionTicketKeys":{"keys":[{"inlineString":"`+strings.Repeat("x", 80)+`"}]},"commonTlsContext":{`+own+`}`)), "", ""},
		{"stapling", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"ocspStaplePolicy":"MUST_STAPLE","commonTlsContext":{`+own+`}`)), "filter_chains[0].transport_socket.typed_config.ocsp_staple_policy", "unsupported (set to MUST_STAPLE)"},
		{"secret without a name", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"sdsConfig":{"ads":{}}}]}`)), chain + ".tls_certificate_sds_secret_configs[0].name", "at least 1"},
		{"secret from nowhere", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":"x","sdsConfig":{}}]}`)), chain + ".tls_certificate_sds_secret_configs[0].sds_config.config_source_specifier", "required"},
		{"secret over REST", "listener", withTLS(`"transportSocket":` + contextOf("Downstream", `"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":"x","sdsConfig":{"apiConfigSource":{"apiType":"REST","clusterNames":["c"]}}}]}`)), chain + ".tls_certificate_sds_secret_configs[0].sds_config.api_config_source.cluster_names", "unsupported"},
		{"secret and certificate", "listener", server(`"tlsCertificateSdsSecretConfigs":[{"name":"x","sdsConfig":{"ads":{}}}]`), chain + ".tls_certificate_sds_secret_configs", "beside tls_certificates"},

		{"client", "cluster", client(`"sni":"a.test"`), "", ""},
		{"client without anything", "cluster", cluster(`"transportSocket":{"name":"envoy.transport_sockets.tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}`), "", ""},
		{"client with two certificates", "cluster", client(`"commonTlsContext":{"tlsCertificates":[` + certificate + `,` + certificate + `]}`), common + ".tls_certificates", "Multiple TLS certificates are not supported"},
		{"client that verifies its SNI by nobody", "cluster", client(`"sni":"a.test","autoSniSanValidation":true`), "transport_socket.typed_config.auto_sni_san_validation", "without a validation context"},
		{"client with an odd SNI", "cluster", client(`"sni":"a\u0000b"`), "transport_socket.typed_config.sni", "NULL-byte"},
		{"client that asks for protocols", "cluster", cluster(`"transportSocket":` + contextOf("Upstream", `"sni":"a.test"`) + `,"typedExtensionProtocolOptions":{"h":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","autoConfig":{}}}`), "", ""},
		{"client that asks for protocols in plain text", "cluster", cluster(`"typedExtensionProtocolOptions":{"h":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","autoConfig":{}}}`), `typed_extension_protocol_options["h"].auto_config`, "non-ALPN transport socket"},
		{"client that names each request's host", "cluster", cluster(`"transportSocket":` + contextOf("Upstream", `"sni":"a.test"`) + `,"typedExtensionProtocolOptions":{"h":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"httpProtocolOptions":{}},"upstreamHttpProtocolOptions":{"autoSni":true}}}`), `typed_extension_protocol_options["h"].upstream_http_protocol_options`, "unsupported"},

		{"chains apart", "listener", chainsOf(named("a.test"), named("*.a.test"), `"filterChainMatch":{"serverNames":["a.test"],"applicationProtocols":["h2"]}`, `"filterChainMatch":{"serverNames":["a.test"],"destinationPort":443}`), "", ""},
		{"chains alike", "listener", chainsOf(named("a.test")+`,"name":"x"`, named("a.test")+`,"name":"y"`), match, "filter chain 'y' has the same matching rules defined as 'x'"},
		{"chains that overlap", "listener", chainsOf(`"filterChainMatch":{"serverNames":["a.test","b.test"]}`, `"filterChainMatch":{"serverNames":["b.test","c.test"]}`), match, "multiple filter chains with overlapping matching rules are defined"},
		{"chains without a match", "listener", chainsOf(`"name":"x"`, `"name":"y"`), match, "the same matching rules"},
		{"half a wildcard", "listener", chainsOf(named("a*.test")), "filter_chains[0].filter_chain_match.server_names[0]", "partial wildcards are not supported"},
		{"chain by address", "listener", chainsOf(`"filterChainMatch":{"prefixRanges":[{"addressPrefix":"127.0.0.0","prefixLen":8}]}`), "filter_chains[0].filter_chain_match.prefix_ranges", "unsupported"},
		{"chain by source", "listener", chainsOf(`"filterChainMatch":{"sourceType":"SAME_IP_OR_LOOPBACK"}`), "filter_chains[0].filter_chain_match.source_type", "unsupported"},
		{"chain by a strange transport", "listener", chainsOf(`"filterChainMatch":{"transportProtocol":"own"}`), "filter_chains[0].filter_chain_match.transport_protocol", "unsupported (set to own)"},

		{"secret", "secret", `{"name":"s","tlsCertificate":` + certificate + `}`, "", ""},
		{"secret of who is trusted", "secret", `{"name":"s","validationContext":{` + trust + `}}`, "", ""},
		{"empty secret", "secret", `{"name":"s"}`, "", "holds nothing"},
		{"secret that is garbage", "secret", `{"name":"s","tlsCertificate":{"certificateChain":{"inlineString":"x"},"privateKey":{"inlineString":"y"}}}`, "tls_certificate.certificate_chain", "Failed to load certificate chain"},
		{"secret that is generic", "secret", `{"name":"s","genericSecret":{"secret":{"inlineString":"x"}}}`, "generic_secret", "unsupported"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var err error
			if tc.kind == "secret" {
				_, _, err = New().Secret(wire(t, new(tlsv3.Secret), tc.text))
			} else {
				err = take(t, tc.kind, tc.text)
			}
			got := Reasons(err)
			switch {
			case tc.path == "" && tc.reason == "":
				if err != nil {
					t.Errorf("is refused: %v", err)
				}
			case len(got) == 0:
				t.Error("is taken")
			case got[0].Path != tc.path || !strings.Contains(got[0].Reason, tc.reason):
				t.Errorf("got %v\nwant %s: …%s…", err, tc.path, tc.reason)
			case strings.Contains(err.Error(), "PRIVATE"):
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

// What did not change keeps its pointers: contexts, and all of a listener whose
// routes alone are others.
func TestTLSStaysTheSame(t *testing.T) {
	ca := testkit.NewCA(t, "ca")
	pair := ca.Issue("a.test")
	text := func(b []byte) string { j, _ := json.Marshal(string(b)); return string(j) }
	names := fmt.Sprintf(`"validationContext":{"trustedCa":{"inlineString":%s},"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"exact":"x"}}]}`, text(ca.PEM))
	secure := contextOf("Downstream", fmt.Sprintf(`"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":%s},"privateKey":{"inlineString":%s}}],%s}`, text(pair.Cert), text(pair.Key), names))
	inline := func(to string) string {
		routes := `"routeConfig":` + oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"`+to+`"}}`) + `,`
		return strings.ReplaceAll(chainsOf(`"filterChainMatch":{"serverNames":["a.test"]},"transportSocket":`+secure, `"name":"other","filterChainMatch":{"serverNames":["b.test"]}`),
			`"rds":{"configSource":{"ads":{}},"routeConfigName":"r0"},`, routes)
	}
	c := New()
	take := func(to string) *snapshot.Listener {
		l, _, err := c.Listener(listenerWire(t, inline(to)))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before, after := take("a"), take("b")
	if before == after || before.Chains[0].TLS != after.Chains[0].TLS {
		t.Error("want another listener with the same context")
	}
	if before.Chains[0].Inline == after.Chains[0].Inline || after.Chains[1].Inline == nil {
		t.Error("want other routes in each chain")
	}
	if got := []string{after.Chains[0].Name, after.Chains[1].Name}; strings.Join(got, " ") != "a.test other" || !after.NoDefault {
		t.Errorf("chains %q", got)
	}
	one := clusterWire(t, cluster(`"transportSocket":`+contextOf("Upstream", `"commonTlsContext":{`+names+`}`)))
	two := clusterWire(t, cluster(`"connectTimeout":"2s","transportSocket":`+contextOf("Upstream", `"commonTlsContext":{`+names+`}`)))
	was, _, err := c.Cluster(one)
	if err != nil {
		t.Fatal(err)
	}
	is, _, err := c.Cluster(two)
	if err != nil || was == is || was.TLS != is.TLS {
		t.Errorf("want another cluster with the same context: %v", err)
	}
}
