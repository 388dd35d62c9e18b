package rivals

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// Every configuration can be filled in, for every mode and with either set of
// features. That programs accept them is conformance's to show.
func TestConfigurationsRender(t *testing.T) {
	certs, err := NewCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to := &Backend{H2: "127.0.0.1:1", H1: "127.0.0.1:2", TLS2: "127.0.0.1:3", TLS1: "127.0.0.1:4"}
	entries, err := configs.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "nginx-backend.conf" {
			continue // has data of its own
		}
		for _, mode := range []Mode{Plain, TLS, HTTP1} {
			for _, extra := range []bool{false, true} {
				c := Place{Mode: mode, Dir: t.TempDir(), To: to, Certs: certs, Connections: 77}.config("127.0.0.1:5", "127.0.0.1:6", false)
				c.Extra = extra
				path, err := render(c.Dir, e.Name(), c)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if text := string(raw); strings.Contains(text, "<no value>") || strings.Contains(text, "{{") || !strings.Contains(text, ":"+map[Mode]string{Plain: "1", TLS: "3", HTTP1: "2"}[mode]) && e.Name() != "envoy.yaml" && e.Name() != "h2o.yaml" {
					t.Errorf("%s for %s:\n%s", e.Name(), mode, text)
				}
			}
		}
	}
}

func TestBackendByModeAndProtocol(t *testing.T) {
	to := &Backend{H2: "h:1", H1: "h:2", TLS2: "h:3", TLS1: "h:4"}
	for _, c := range []struct {
		mode Mode
		h1   bool
		want string
	}{{Plain, false, "h:1"}, {Plain, true, "h:2"}, {HTTP1, false, "h:2"}, {TLS, false, "h:3"}, {TLS, true, "h:4"}} {
		if got := (Place{Mode: c.mode, To: to}).config("h:5", "h:6", c.h1); got.Backend != c.want {
			t.Errorf("%s, HTTP/1.1 %v: %s, want %s", c.mode, c.h1, got.Backend, c.want)
		}
	}
}

func TestBodyHasItsLength(t *testing.T) {
	for _, n := range []int{60, 61, 75, 200, 1024, 64 << 10, 1 << 20} {
		b := Body(n)
		if len(b) != n || !json.Valid(b) {
			t.Errorf("Body(%d) has %d bytes, JSON %v", n, len(b), json.Valid(b))
		}
	}
}

func TestCertificatesPair(t *testing.T) {
	c, err := NewCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{c.Cert, c.Key}, {c.Pair, c.Pair}} {
		if _, err := tls.LoadX509KeyPair(pair[0], pair[1]); err != nil {
			t.Error(err)
		}
	}
}
