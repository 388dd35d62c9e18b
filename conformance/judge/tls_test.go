package judge

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/internal/testkit"
)

// testTLS opens an HTTPS port, whose certificate comes as a secret, has another
// certificate take its place while a connection is held, and closes the port.
func (g *gateway) testTLS(t *testing.T) {
	addrs, err := proc.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	port, ca := proc.Port(addrs[0]), testkit.NewCA(t, "judge")
	client := func() *http.Client {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: host}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	// shows asks on c's connection, and returns the second name on the certificate.
	shows := func(ctx context.Context, c *http.Client) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addrs[0]+"/live", http.NoBody)
		if err != nil {
			return err.Error()
		}
		req.Host = host
		res, err := c.Do(req)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			return res.Status + " by " + res.Proto
		}
		return res.TLS.PeerCertificates[0].DNSNames[1]
	}
	g.write(t, "secret.yaml", secretYAML(ca.Issue(host, "one.example")))
	g.write(t, "gateway.yaml", gatewayYAML([]int{g.port}, port, g.backends))
	last := ""
	serves := func(want string) func(context.Context) bool {
		return func(ctx context.Context) bool { last = shows(ctx, client()); return last == want }
	}
	if err := g.await(deadline(t), "serve HTTPS", serves("one.example")); err != nil {
		t.Fatalf("%v: %s", err, last)
	}
	held := client()
	if got := shows(deadline(t), held); got != "one.example" {
		t.Fatal(got)
	}
	other := client()
	other.Transport.(*http.Transport).TLSClientConfig.ServerName = "other.example"
	if got := shows(deadline(t), other); got == "one.example" {
		t.Error("a name that no listener has is served")
	}
	g.write(t, "secret.yaml", secretYAML(ca.Issue(host, "two.example")))
	if err := g.await(deadline(t), "show the new certificate", serves("two.example")); err != nil {
		t.Errorf("%v: %s", err, last)
	}
	if got := shows(deadline(t), held); got != "one.example" {
		t.Errorf("the connection that was held came to %q", got)
	}
	g.write(t, "gateway.yaml", gatewayYAML([]int{g.port}, 0, g.backends))
	if err := g.await(deadline(t), "close the HTTPS port", func(ctx context.Context) bool {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addrs[0])
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}); err != nil {
		t.Error(err)
	}
}
