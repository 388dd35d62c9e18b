package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/internal/testkit"
)

// secret is a file with the secret "own".
func secret(p testkit.Pair) string {
	text := func(b []byte) string { j, _ := json.Marshal(string(b)); return string(j) }
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
name: own
tls_certificate: {certificate_chain: {inline_string: %s}, private_key: {inline_string: %s}}
`, text(p.Cert), text(p.Key))
}

// secureListener is a listener that shows the secret "own".
func secureListener() string {
	return listener("in", 8080) + `  transport_socket:
    name: tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context: {tls_certificate_sds_secret_configs: [{name: own, sds_config: {ads: {}}}]}
`
}

// keyIn reports whether text has a key, or a part of it.
func keyIn(text string, p testkit.Pair) bool {
	return strings.Contains(text, strings.Split(string(p.Key), "\n")[1])
}

// TestServesSecrets: secrets are served like all else, and shown without their keys.
func TestServesSecrets(t *testing.T) {
	ca := testkit.NewCA(t, "ca")
	one, two := ca.Issue("one.test"), ca.Issue("two.test")
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "a.yaml", cluster("a", "1s")+secureListener()+routes("a"), "s.yaml", secret(one))
		c := r.connect(secretive, delta, nil)
		c.holds(Secrets, "own", string(one.Key))
		r.change("s.yaml", secret(two))
		c.holds(Secrets, "own", string(two.Key))

		status, dump := r.page(http.MethodGet, "/config_dump", "")
		if status != http.StatusOK || !strings.Contains(dump, "own") || keyIn(dump, two) {
			t.Errorf("/config_dump: %d\n%s", status, dump)
		}
		r.server.mu.Lock()
		csds := fmt.Sprint(r.server.clientConfig(r.server.nodes[secretive], true))
		r.server.mu.Unlock()
		if !strings.Contains(csds, "own") || keyIn(csds, two) {
			t.Errorf("CSDS: %s", csds)
		}
	})
}

// TestDiffOfSecrets: that a key differs is told, and the key is not.
func TestDiffOfSecrets(t *testing.T) {
	ca := testkit.NewCA(t, "ca")
	one, two := ca.Issue("one.test"), ca.Issue("two.test")
	other := one
	other.Key = two.Key
	for what, p := range map[string]testkit.Pair{"tls_certificate.certificate_chain.inline_string": two, "(a key)": other} {
		got := fmt.Sprint(Diff(group(t, secret(one)), group(t, secret(p))))
		if !strings.Contains(got, "changed") || !strings.Contains(got, what) || keyIn(got, one) || keyIn(got, two) {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// TestSecretsThatNobodyHas: the listener that names one waits for it.
func TestSecretsThatNobodyHas(t *testing.T) {
	set, err := (&Loader{}).take([]file{{name: "a.yaml", data: []byte(cluster("a", "1s") + secureListener() + routes("a"))}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(set.Warnings, ""), `asks for the secret "own", which is not there`) {
		t.Errorf("warnings %q", set.Warnings)
	}
	bad := testkit.NewCA(t, "ca").Issue("a.test")
	bad.Key = []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
	if _, err := (&Loader{}).take([]file{{name: "s.yaml", data: []byte(secret(bad))}}); err == nil || keyIn(err.Error(), bad) || !strings.Contains(err.Error(), "s.yaml:4") {
		t.Errorf("a key that is none: %v", err)
	}
}
