package rivals

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// check asks addr once and compares the answer with the backend's: over HTTP/2,
// or for a server over HTTP/1.1.
func check(ctx context.Context, at Place, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	defer tr.CloseIdleConnections()
	url, major := "http://"+addr+QueryPath+"?tenant=t-0&metric=pv", 2
	var want []byte
	switch {
	case at.To == nil:
		tr.Protocols.SetHTTP1(true)
		url, want, major = "http://"+addr+StatsPath, StatsBody(), 1
	case at.Mode == TLS:
		want = at.To.Body
		tr.Protocols.SetHTTP2(true)
		pem, err := os.ReadFile(at.Certs.Cert)
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
		url = "https" + url[len("http"):]
	default:
		want = at.To.Body
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if res.StatusCode != http.StatusOK || res.ProtoMajor != major || !bytes.Equal(got, want) {
		return fmt.Errorf("check: answered HTTP/%d %d with %d bytes %.200q, want HTTP/%d 200 and the backend's %d bytes", res.ProtoMajor, res.StatusCode, len(got), got, major, len(want))
	}
	return nil
}
