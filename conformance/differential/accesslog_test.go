package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// operators are the command operators whose values are compared, by name.
var operators = map[string]string{
	"method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "authority": "%REQ(:AUTHORITY)%", "agent": "%REQ(USER-AGENT)%", "none": "%REQ(X-NONE)%",
	"cut": "%REQ(:PATH):4%", "protocol": "%PROTOCOL%", "code": "%RESPONSE_CODE%", "details": "%RESPONSE_CODE_DETAILS%", "flags": "%RESPONSE_FLAGS%",
	"received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%", "duration": "%DURATION%", "service": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "type": "%RESP(CONTENT-TYPE)%",
	"xff": "%REQ(X-FORWARDED-FOR)%", "id": "%REQ(X-REQUEST-ID)%", "upstream": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"peer": "%DOWNSTREAM_REMOTE_ADDRESS%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%", "route": "%ROUTE_NAME%", "start": "%START_TIME%", "epoch": "%START_TIME(%s)%", "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	"sni": "%REQUESTED_SERVER_NAME%", "trailer": "%TRAILER(X-T)%", "request": "%REQUEST_DURATION%", "response": "%RESPONSE_DURATION%", "host": "%VIRTUAL_CLUSTER_NAME%",
	"terminated": "%CONNECTION_TERMINATION_DETAILS%", "from": "%UPSTREAM_LOCAL_ADDRESS%",
}

var (
	someNumber  = regexp.MustCompile(`^[0-9]+$`)
	someTime    = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`)
	someAddress = regexp.MustCompile(`^127\.0\.0\.1:[0-9]+$`)
)

// form returns a value as it is compared: what is timed or drawn, by its form.
func form(name, v string) string {
	switch name {
	case "duration", "service", "request", "response", "epoch":
		return someNumber.ReplaceAllString(v, "(number)")
	case "start":
		return someTime.ReplaceAllString(v, "(time)")
	case "id":
		return uuid.ReplaceAllString(v, "(uuid)")
	case "peer", "local", "from":
		return someAddress.ReplaceAllString(v, "(address)")
	case "sent":
		return someNumber.ReplaceAllStringFunc(v, func(s string) string {
			if s == "0" {
				return s
			}
			return "(bytes)" // the echo of two requests differs by their connections
		})
	}
	return v
}

func fileLog(path, filter, format string) string {
	if filter != "" {
		filter = "filter: {response_flag_filter: {" + filter + "}}, "
	}
	return fmt.Sprintf(`{name: envoy.access_loggers.file, %styped_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s, log_format: {%s}}}`, filter, path, format)
}

// TestAccessLog compares the lines that both write, field by field. The path is
// relative: each writes below its own working directory.
func TestAccessLog(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	names := slices.Sorted(maps.Keys(operators))
	fields := make([]string, len(names))
	var text strings.Builder
	for i, n := range names {
		fields[i] = fmt.Sprintf("%s: %q", n, operators[n])
		text.WriteString(operators[n] + "~")
	}
	if names[0] != "agent" {
		t.Fatal("the order of names has changed")
	}
	hcm := "access_log: [" + strings.Join([]string{
		fileLog("json.log", "", "json_format: {"+strings.Join(fields, ", ")+"}"),
		fileLog("text.log", "", `text_format_source: {inline_string: "`+text.String()+`\n"}`),
		fileLog("flags.log", "flags: [NR, UO, UF]", `text_format_source: {inline_string: "%RESPONSE_FLAGS% %REQ(:PATH)%\n"}`),
		fileLog("any.log", "", `text_format_source: {inline_string: "%RESPONSE_FLAGS% %REQ(:PATH)%\n"}`),
		fileLog("anyflag.log", "flags: []", `text_format_source: {inline_string: "%RESPONSE_FLAGS% %REQ(:PATH)%\n"}`),
		`{name: envoy.access_loggers.file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: default.log}}`,
	}, ", ") + "]"
	cases := []*request{
		get("/ok?q=1").is("200 b0"), get("/ok").one().is("200 b0"), post("/ok", "12345").is("200 b0"), get("/none").is("404"), get("/direct").is("200"), get("/lost").is("503"), get("/refused").is("503"),
		get("/slow").h("q-delay", "2s").is("504"), get("/rewritten/x").is("200 b0"), get("/ok").h("q-status", "418").h("q-trailer", "x-t=1").is("418 b0"), get("/sick").is("503"), get("/ok").h("q-abort", "1").is("503"), get("/redirect").is("301"), get("/ok").h("user-agent", `quote"d\`).is("200 b0"),
	}
	s.run(t, []trial{{"access log", []step{{
		part: part{
			hcm: hcm, routes: `[{match: {prefix: /ok}, name: the-route, route: {cluster: b0}}, {match: {path: /direct}, direct_response: {status: 200, body: {inline_string: hi}}}, {match: {path: /lost}, route: {cluster: none}}, {match: {path: /refused}, route: {cluster: refused}}, {match: {path: /slow}, route: {cluster: b0, timeout: 0.2s}}, {match: {prefix: /rewritten}, route: {cluster: b0, prefix_rewrite: /r}}, {match: {path: /sick}, route: {cluster: sick}}, {match: {path: /redirect}, redirect: {https_redirect: true}}]`,
			clusters: []string{
				`{name: refused, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: refused, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${nobody}"}}}}]}]}}`,
				`{name: sick, type: STATIC, connect_timeout: 1s}`,
			},
		},
		requests: cases,
	}}}})
	for _, name := range []string{"json.log", "text.log", "default.log", "flags.log", "any.log", "anyflag.log"} {
		t.Run(name, func(t *testing.T) { s.compareLogs(t, name, names, len(cases)) })
	}
}

// lines waits until a log holds the last line that it will hold, and returns all
// but those of probes.
func (x *proxy) lines(t *testing.T, name string) (out []string) {
	t.Helper()
	last := "quote" // the user agent of the last request
	switch name {
	case "flags.log":
		last = "UF /refused"
	case "any.log":
		last = "- /ok\n"
	case "anyflag.log":
		last = "UR /ok"
	}
	until(deadline(t, within), func() bool {
		b, _ := os.ReadFile(filepath.Join(x.dir, name))
		return strings.HasSuffix(string(b), last) || strings.Contains(string(b), last) && name != "any.log"
	})
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		t.Error(err)
	}
	for l := range strings.Lines(string(b)) {
		if !strings.Contains(l, probeHost) && !strings.HasSuffix(l, " /\n") {
			out = append(out, strings.TrimSuffix(l, "\n"))
		}
	}
	return out
}

func (s *stand) compareLogs(t *testing.T, name string, names []string, n int) {
	t.Helper()
	e, o := s.envoy.lines(t, name), s.ours.lines(t, name)
	if len(e) == 0 || len(e) > n {
		t.Fatalf("Envoy has written %d lines for %d requests: %q", len(e), n, e)
	}
	if len(e) != len(o) {
		t.Fatalf("Envoy has written %d lines, quadnine %d:\n%s\n\n%s", len(e), len(o), strings.Join(e, "\n"), strings.Join(o, "\n"))
	}
	for i := range e {
		var found []difference
		switch name {
		case "json.log":
			var a, b map[string]any
			if err := json.Unmarshal([]byte(o[i]), &b); err != nil {
				t.Errorf("%v: %s", err, o[i])
			}
			if err := json.Unmarshal([]byte(e[i]), &a); err != nil {
				t.Errorf("%v: %s", err, e[i])
			}
			for _, f := range names {
				if x, y := form(f, fmt.Sprint(a[f])), form(f, fmt.Sprint(b[f])); x != y || fmt.Sprintf("%T", a[f]) != fmt.Sprintf("%T", b[f]) {
					found = append(found, difference{"log " + f, fmt.Sprintf("%T %s", a[f], x), fmt.Sprintf("%T %s", b[f], y)})
				}
			}
		case "text.log":
			a, b := strings.Split(e[i], "~"), strings.Split(o[i], "~")
			if len(a) != len(b) {
				found = append(found, difference{"log line", e[i], o[i]})
				break
			}
			for j, f := range names {
				if x, y := form(f, a[j]), form(f, b[j]); x != y {
					found = append(found, difference{"log " + f, x, y})
				}
			}
		case "default.log":
			x, y := defaultForm.ReplaceAllString(e[i], "N"), defaultForm.ReplaceAllString(o[i], "N")
			if x != y {
				found = append(found, difference{"log line", e[i], o[i]})
			}
		default:
			if e[i] != o[i] {
				found = append(found, difference{"log line", e[i], o[i]})
			}
		}
		report(t, "access log", name+" line "+itoa(i)+": "+e[i][:min(len(e[i]), 600)], found)
	}
}

// defaultForm is what varies in a line of the default format.
var defaultForm = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|20[0-9]{2}-[0-9-]+T[0-9:.]+Z|[0-9]+ [0-9]+ [0-9]+ ([0-9]+|-) `)

// TestOwnFilterActs: the filter that Envoy ignores because it is optional, and
// what the same configuration does here.
func TestOwnFilterActs(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	breaker := `{"@type": type.googleapis.com/quadnine.policy.v1.TenantBreaker, requireTenant: true}`
	s.run(t, []trial{{"own filter acts", []step{{
		part: part{noProbe: true, routes: all, hcm: "http_filters: [{name: quadnine.breaker, is_optional: true, typed_config: " + breaker + "}, " + routerFilter + "]"},
		do: func(t *testing.T, s *stand) {
			t.Helper()
			for _, x := range s.both() {
				x.eventually(t, get("/").h("x-tenant-id", "acme"), "200 b0")
			}
			if a := s.envoy.send(t, get("/")); a.status != http.StatusOK {
				t.Errorf("Envoy does not ignore the optional filter: %s", a.brief())
			}
			if a := s.ours.send(t, get("/")); !self && a.status != http.StatusBadRequest {
				t.Errorf("without a tenant: %s %q: want 400", a.brief(), a.body)
			}
		},
	}}}})
}
