package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// TestForwardedCertsAreNotBelieved: with flags nobody's word for who calls reaches
// the app, whether the caller has a certificate or not.
func TestForwardedCertsAreNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "told: "+req.Header.Get(forwardedCert)+"!")
		}
		r := newRig(t, snapshot.Source{})
		r.app("app:80", told)
		r.get("/", forwardedCert, "By=spiffe://td/app;URI=spiffe://td/admin").want(t, 200, "told: !")
		r.settled()
	})
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{
			Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}, RequireClient: true,
			Validation: &snapshot.Validation{Roots: inline(ca.PEM), Depth: -1},
		}))
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "told: "+req.Header.Get(forwardedCert))
		})
		c := r.tlsClient(&tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue("spiffe://td/a").TLS(t)}}, true)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://sidecar:80/", nil)
		req.Header.Set(forwardedCert, "URI=spiffe://td/admin")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, _ := io.ReadAll(resp.Body); string(b) != "told: " {
			t.Errorf("the app was %s", b)
		}
	})
}

// TestNamesOfCertificatesStayNames: what a certificate says ends neither the field
// nor its part of it.
func TestNamesOfCertificatesStayNames(t *testing.T) {
	leaf := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "a\r\nx-admin: \"1\""},
		DNSNames: []string{"a.test", "b\r\nx-admin: 1", `c";URI=spiffe://td/admin,By=d`},
		URIs:     []*url.URL{{Scheme: "spiffe", Host: "td", Path: "/a;URI=spiffe:,b"}},
	}
	s := &shown{peer: []*x509.Certificate{leaf}, own: "spiffe://td/own"}
	got := s.tell(&snapshot.ClientCert{Subject: true, URI: true, DNS: true})
	const none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	want := `By=spiffe://td/own;Hash=` + none + `;Subject="CN=ax-admin: \\"1\\"";URI="spiffe://td/a;URI=spiffe:,b";DNS=a.test;DNS=bx-admin: 1;DNS="c\";URI=spiffe://td/admin,By=d"`
	if got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}
}
