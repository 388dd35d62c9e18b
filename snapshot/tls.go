package snapshot

import (
	"crypto/tls"
	"fmt"
)

// TLS is how connections are secured: those that a filter chain takes, or those
// that a cluster makes. Names in comments are the fields of
// envoy.extensions.transport_sockets.tls.v3. What comes from files is read by who
// uses it, and read anew when the files change.
type TLS struct {
	Certificates  []Certificate // ours; a server has at least one
	Validation    *Validation   // nil: the peer is not verified
	MinVersion    uint16        // crypto/tls; 0: Go's
	MaxVersion    uint16        // likewise
	CipherSuites  []uint16      // of TLS 1.2; nil: Go's
	Curves        []tls.CurveID // nil: Go's
	ALPN          []string      // alpn_protocols; nil: what the connection's codec or protocol speaks
	RequireClient bool          // DownstreamTlsContext: a caller without a certificate is refused

	SNI         string // UpstreamTlsContext: sni
	SNIFromHost bool   // auto_host_sni: the endpoint's hostname
	VerifySNI   bool   // auto_sni_san_validation: the SNI must be a name of the certificate

	NoTickets bool // disable_stateless_session_resumption: a server gives none

	// What is supplied apart. Whoever follows the suppliers fills it in: in a
	// snapshot that is applied there are none.
	CertificateRefs []SecretRef // tls_certificate_sds_secret_configs: become Certificates
	ValidationRef   *SecretRef  // validation_context_sds_secret_config: goes over Validation
	// Missing says what has not come, or cannot be used: every handshake fails with
	// it. "": nothing.
	Missing string
}

// Terms tells ways to secure connections apart: those that were made on other terms
// are not used any more. Certificates, keys and bundles are no part of them, because
// connections outlive a rotation. Nil, plain text, has none.
func (t *TLS) Terms() string {
	if t == nil {
		return ""
	}
	b := fmt.Appendf(nil, "tls %x-%x %x %x %v %q %v %v", t.MinVersion, t.MaxVersion, t.CipherSuites, t.Curves, t.RequireClient, t.SNI, t.SNIFromHost, t.VerifySNI)
	if v := t.Validation; v != nil {
		b = fmt.Appendf(b, " verified %v %v %v %d %x %x", v.Roots.Set(), v.SystemRoots, v.Untrusted, v.Depth, v.Hashes, v.Keys)
		for _, n := range v.Names {
			b = fmt.Appendf(b, " %d %q", n.Kind, n.Text)
		}
	}
	return string(b)
}

// PEM is data that stands in the configuration or in a file.
type PEM struct {
	Path  string // "": Bytes hold them
	Bytes []byte
}

// Set reports whether there is anything to read.
func (s PEM) Set() bool { return s.Path != "" || len(s.Bytes) > 0 }

// Certificate is a chain of certificates and its key.
type Certificate struct {
	Chain, Key PEM
	Watch      string // watched_directory: both are read anew when something moves into it; "": when they change
}

// Validation is how a peer's certificate is verified.
type Validation struct {
	Roots       PEM // trusted_ca; a chain is verified when it is set, or SystemRoots is
	SystemRoots bool
	Untrusted   bool          // trust_chain_verification ACCEPT_UNTRUSTED
	Names       []NameMatcher // match_typed_subject_alt_names: one must match; none: any name
	Hashes      [][]byte      // verify_certificate_hash: SHA-256 of the certificate …
	Keys        [][]byte      // verify_certificate_spki: … or of its public key; one of both must match
	Depth       int           // max_verify_depth: intermediates; -1: any number
	Watch       string        // watched_directory
}

// NameKind is a kind of subject alternative name.
type NameKind uint8

// The kinds.
const (
	NameAny NameKind = iota
	NameURI          // a SPIFFE ID is one
	NameDNS
	NameIP
	NameEmail
)

// NameMatcher matches a subject alternative name.
type NameMatcher struct {
	Kind  NameKind
	Match func(name string, dns bool) bool // dns: name is a DNS name of a certificate, which may be a wildcard
	Text  string                           // for people
}

// Chain is a filter chain that is chosen by what is known of a connection before
// its first request. Its Listener holds everything but Name, Address, Role and
// TCP, which are those of the listener that it belongs to.
type Chain struct {
	Name  string // unique in its listener
	Match ChainMatch
	*Listener
}

// ChainMatch is filter_chain_match. Every field that is set must match; the most
// specific chain wins, field by field in Envoy's order (destination port, address,
// server name, transport protocol, application protocols, source).
type ChainMatch struct {
	Port         uint32   // destination_port; 0: any
	ServerNames  []string // exact, or "*.example.com"; nil: any
	Transport    string   // "tls", "raw_buffer" or "": any
	Applications []string // ALPN that the caller offers: one of these; nil: any
}
