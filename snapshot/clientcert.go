package snapshot

// ClientCert is forward_client_cert_details and set_current_client_cert_details: what
// becomes of a request's x-forwarded-client-cert.
type ClientCert struct {
	Mode ClientCertMode
	// What is told of the caller's certificate, besides its hash and which of ours it
	// was shown.
	Cert, Chain, Subject, URI, DNS bool
}

// ClientCertMode is forward_client_cert_details.
type ClientCertMode uint8

// The modes. All but the last hold for callers with a certificate; of others the field
// is removed.
const (
	SanitizeCert      ClientCertMode = iota // removed
	ForwardCert                             // passed on
	AppendForwardCert                       // passed on, with the caller's after it
	SanitizeSetCert                         // the caller's takes its place
	AlwaysForwardCert                       // passed on, whoever calls
)
