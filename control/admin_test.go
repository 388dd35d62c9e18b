package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// page returns a page of the server's.
func (r *rig) page(method, path, body string) (int, string) {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func rejectX(k Kind, name string) string {
	if k == Clusters && strings.HasPrefix(name, "x ") {
		return "no x here"
	}
	return ""
}

func TestPages(t *testing.T) {
	r := newRig(t, "a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a"), "x.yaml", cluster("x", "1s"))
	c := r.connect("n1", true, rejectX)
	c.holds(Routes, "routes", "all")
	c.holds(Endpoints, "a", "127")
	r.idle()

	if code, body := r.page(http.MethodGet, "/ready", ""); code != 200 || body != "LIVE\n" {
		t.Errorf("/ready: %d %s", code, body)
	}
	code, body := r.page(http.MethodGet, "/status", "")
	var s Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	if len(s.Nodes) != 1 || len(s.Nodes[0].Resources) != 1 || s.Nodes[0].Resources[0].State != stateRejected || s.Nodes[0].Resources[0].NACKs != 1 {
		t.Errorf("nodes %+v", s.Nodes)
	}
	if code, body := r.page(http.MethodGet, "/config_dump", ""); code != 200 {
		t.Errorf("/config_dump: %d", code)
	} else if g, err := ReadDump("dump", []byte(body)); err != nil || len(Diff(g, r.server.set.Groups[0])) != 0 || g.Len() != 6 {
		t.Errorf("the dump does not say what is served: %v", err)
	}
	if code, _ := r.page(http.MethodGet, "/config_dump?group=none", ""); code != http.StatusNotFound {
		t.Errorf("a group that is not there: %d", code)
	}
	for body, want := range map[string]string{cluster("b", "1s"): `"valid": true`, "a: 1": `body:1: has neither`, cluster("a", "x"): "body:5: connect_timeout"} {
		if code, got := r.page(http.MethodPost, "/validate", body); code != 200 || !strings.Contains(got, want) {
			t.Errorf("/validate %q: %d %s", body, code, got)
		}
	}
	if code, _ := r.page(http.MethodGet, "/validate", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET /validate: %d", code)
	}
	if code, body := r.page(http.MethodGet, "/", ""); code != 200 || !strings.Contains(body, "/config_dump") {
		t.Errorf("/: %d %s", code, body)
	}
	r.write("bad.yaml", "a: [")
	if err := r.server.Reload(t.Context()); err == nil {
		t.Fatal("taken")
	}
	if _, body := r.page(http.MethodGet, "/ready", ""); !strings.Contains(body, "serving older files") {
		t.Errorf("/ready: %s", body)
	}
	_, metrics := r.page(http.MethodGet, "/metrics", "")
	for _, line := range []string{
		`quadnine_control_config_error 1`, `quadnine_control_streams{variant="delta"} 1`, `quadnine_control_nacks_total{api="CDS"} 1`,
		`quadnine_control_rejected_resources{api="CDS"} 1`, `quadnine_control_nodes 1`, `quadnine_control_reloads_total{result="error"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics lacks %s:\n%s", line, metrics)
		}
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range catalog {
		line := "| `" + m.name
		if m.labels != nil {
			line += "{" + strings.Join(m.labels, ",") + "}"
		}
		if line += "` | " + m.help + " |"; !strings.Contains(string(page), line) {
			t.Errorf("docs/control.md lacks the line\n%s", line)
		}
	}
}

func TestClientStatus(t *testing.T) {
	r := newRig(t, "a.yaml", cluster("a", "1s"), "x.yaml", cluster("x", "1s"))
	for _, id := range []string{"n1", "n2"} {
		r.connect(id, id == "n1", rejectX).holds(Endpoints, "a", "127")
	}
	r.idle()
	client := statusv3.NewClientStatusDiscoveryServiceClient(r.conn)
	all, err := client.FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{})
	if err != nil || len(all.GetConfig()) != 2 {
		t.Fatalf("%v: %v", err, all)
	}
	one, err := client.FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{
		{NodeId: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "2"}}},
	}})
	if err != nil || len(one.GetConfig()) != 1 || one.GetConfig()[0].GetNode().GetId() != "n2" {
		t.Fatalf("%v: %v", err, one)
	}
	states := make(map[string]adminv3.ClientResourceStatus)
	for _, g := range one.GetConfig()[0].GetGenericXdsConfigs() {
		k, _ := KindOf(g.GetTypeUrl())
		states[k.String()+" "+g.GetName()] = g.GetClientStatus()
		if g.GetName() == "x" && k == Clusters && !strings.Contains(g.GetErrorState().GetDetails(), "no x here") {
			t.Errorf("error state %v", g.GetErrorState())
		}
		if g.GetName() == "a" && len(g.GetXdsConfig().GetValue()) == 0 {
			t.Errorf("%s has no contents", g.GetName())
		}
	}
	if states["CDS a"] != adminv3.ClientResourceStatus_ACKED || states["CDS x"] != adminv3.ClientResourceStatus_NACKED || states["EDS a"] != adminv3.ClientResourceStatus_ACKED {
		t.Errorf("states %v", states)
	}
	stream, err := client.StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&statusv3.ClientStatusRequest{ExcludeResourceContents: true}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || len(got.GetConfig()) != 2 || got.GetConfig()[0].GetGenericXdsConfigs()[0].GetXdsConfig() != nil {
		t.Errorf("%v: %v", err, got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}
