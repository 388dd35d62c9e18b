package captures

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/quadnine/quadnine/bench/proc"
)

// sidecar is the binary, as it runs.
type sidecar struct {
	*proc.Proc

	admin string
}

// startSidecar starts the binary with a server's own bootstrap. What is changed
// of it: the management server's address, which is without TLS here, the admin
// address, those of static listeners, and, unless backend is "", the sockets of
// local agents: the backend takes their place.
func startSidecar(t *testing.T, file, node, server, backend string) *sidecar {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("../../xds/bootstrap/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	boot := make(map[string]any)
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), "/DIR", dir)), &boot); err != nil {
		t.Fatal(err)
	}
	addrs, err := proc.Addrs(8)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addrs[0])
	boot["admin"] = map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": json.Number(port)}}}
	static := either(boot, "static_resources", "staticResources")
	listeners, _ := field(static, "listeners").([]any)
	for i, l := range listeners {
		move(field(l, "address"), addrs[1+i])
	}
	moved := false
	clusters, _ := field(static, "clusters").([]any)
	for _, c := range clusters {
		if name, _ := field(c, "name").(string); name == "xds_cluster" || name == "xds-grpc" || name == "system_ads" {
			m, _ := c.(map[string]any)
			delete(m, "transport_socket")
			delete(m, "transportSocket")
			for _, name := range []string{"load_assignment", "loadAssignment"} {
				hosts(m[name], server)
			}
			moved = true
		} else if backend != "" {
			unpipe(c, backend)
		}
	}
	if !moved {
		t.Fatalf("%s: its management server's cluster is not known", file)
	}
	js, err := json.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(path, js, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sidecar{admin: addrs[0]}
	s.Proc, err = proc.Start(quadnine, []string{"-c", path, "--service-node", node, "--service-cluster", "captures", "--state-dir", filepath.Join(dir, "state"), "--drain-time-s", "2"}, proc.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			out := s.Output()
			t.Logf("output of quadnine:\n%s", out[max(0, len(out)-6000):])
		}
	})
	return s
}

// either returns the member that is there.
func either(v any, names ...string) any {
	for _, name := range names {
		if x := field(v, name); x != nil {
			return x
		}
	}
	return nil
}

// hosts is moveEndpoints for a document in either case of names.
func hosts(v any, addr string) {
	switch v := v.(type) {
	case map[string]any:
		move(v, addr)
		for _, x := range v {
			hosts(x, addr)
		}
	case []any:
		for _, x := range v {
			hosts(x, addr)
		}
	}
}

// unpipe replaces every Unix socket below v by addr.
func unpipe(v any, addr string) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["pipe"]; ok {
			delete(v, "pipe")
			v["socket_address"] = make(map[string]any)
			move(v, addr)
			return
		}
		for _, x := range v {
			unpipe(x, addr)
		}
	case []any:
		for _, x := range v {
			unpipe(x, addr)
		}
	}
}

// state is what /xds/status says of a resource.
type state struct {
	API      string `json:"api"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Static   bool   `json:"static"`
	Received string `json:"version_received"`
	Accepted string `json:"version_accepted"`
	InUse    string `json:"version_in_use"`
	Error    string `json:"error"`
}

// states asks /xds/status; by API and name.
func (s *sidecar) states(t *testing.T) map[string]state {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), http.MethodGet, "http://"+s.admin+"/xds/status", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil // it starts
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Resources []state }
	if err := json.Unmarshal(body, &status); err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	out := make(map[string]state)
	for _, r := range status.Resources {
		if !r.Static {
			out[r.API+" "+r.Name] = r
		}
	}
	return out
}

// caller is a client of one address, whatever URL it is given.
type caller struct {
	*http.Client

	dials *atomic.Int64
}

// newCaller returns a client that speaks HTTP/2 with prior knowledge.
func newCaller(t *testing.T, addr string) caller {
	t.Helper()
	c := caller{dials: new(atomic.Int64)}
	tr := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c.dials.Add(1)
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if _, ok := secured.Load(addr); !ok || err != nil {
				return conn, err
			}
			return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com", NextProtos: []string{"h2"}}), nil
		},
	}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	c.Client = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}
