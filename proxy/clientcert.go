package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/quadnine/quadnine/snapshot"
)

const forwardedCert = "x-forwarded-client-cert"

// shown is the certificates of a connection's handshake.
type shown struct {
	peer []*x509.Certificate // the caller's own first; nil: it has none
	own  string              // the first URI of ours; "" without

	text string // what is told of them …
	as   snapshot.ClientCert
}

// clientCert does to x-forwarded-client-cert what the listener says, as Envoy's
// ConnectionManagerUtility::mutateXfccRequestHeader.
func (d decode) clientCert(x *Exchange) {
	how := &x.site.HTTP.ClientCert
	if how.Mode == snapshot.AlwaysForwardCert {
		return
	}
	s := x.conn.shown
	if s == nil || len(s.peer) == 0 {
		x.req.Del(forwardedCert)
		return
	}
	if how.Mode == snapshot.ForwardCert {
		return
	}
	if s.text == "" || s.as != *how {
		s.text, s.as = s.tell(how), *how // once for a connection
	}
	d.scratch = d.scratch[:0]
	if how.Mode == snapshot.AppendForwardCert {
		once(x, forwardedCert)
		if have := x.req.Get(forwardedCert); len(have) > 0 {
			d.scratch = append(append(d.scratch, have...), ',')
		}
	}
	d.scratch = append(d.scratch, s.text...)
	x.req.Del(forwardedCert)
	x.req.AddValue(forwardedCert, d.scratch)
}

// tell writes what is told of the caller's certificate. It is not for a request's
// path.
func (s *shown) tell(how *snapshot.ClientCert) string {
	var parts []string
	leaf := s.peer[0]
	if s.own != "" {
		parts = append(parts, "By="+told(s.own))
	}
	sum := sha256.Sum256(leaf.Raw)
	parts = append(parts, "Hash="+hex.EncodeToString(sum[:]))
	if how.Cert {
		parts = append(parts, `Cert="`+encodedPEM(s.peer[:1])+`"`)
	}
	if how.Chain {
		parts = append(parts, `Chain="`+encodedPEM(s.peer)+`"`)
	}
	if how.Subject {
		parts = append(parts, `Subject="`+printed(strings.ReplaceAll(leaf.Subject.String(), `"`, `\"`))+`"`)
	}
	if how.URI {
		uri := ""
		if len(leaf.URIs) > 0 {
			uri = leaf.URIs[0].String()
		}
		parts = append(parts, "URI="+told(uri))
	}
	if how.DNS {
		for _, name := range leaf.DNSNames {
			parts = append(parts, "DNS="+told(name))
		}
	}
	return strings.Join(parts, ";")
}

// told writes a name so that it cannot pass for more than one: Envoy's readers take
// what is between quotes as one value.
func told(name string) string {
	if name = printed(name); strings.ContainsAny(name, `,;"`) {
		return `"` + strings.ReplaceAll(name, `"`, `\"`) + `"`
	}
	return name
}

// printed leaves out control characters, which may stand in a certificate, and
// would end the field in a head of HTTP/1.1.
func printed(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// urlPEM encodes what Envoy does in PEM.
var urlPEM = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

func encodedPEM(all []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range all {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder takes it
	}
	return urlPEM.Replace(b.String())
}

// ownName returns the first URI of the certificate that the handshake shows: the one
// that crypto/tls takes, which it does not tell.
func ownName(config *tls.Config, hello *tls.ClientHelloInfo) string {
	if len(config.Certificates) == 0 {
		return ""
	}
	c := &config.Certificates[0]
	if len(config.Certificates) > 1 {
		for i := range config.Certificates {
			if hello.SupportsCertificate(&config.Certificates[i]) == nil {
				c = &config.Certificates[i]
				break
			}
		}
	}
	if c.Leaf == nil || len(c.Leaf.URIs) == 0 {
		return ""
	}
	return c.Leaf.URIs[0].String()
}
