package bootstrap

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

func TestResources(t *testing.T) {
	const yaml = `# two documents, three resources
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
  connectTimeout: 3s
- {"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, "name": "b"}
version_info: "7"
---
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: in
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/xds.type.v3.TypedStruct
      type_url: type.googleapis.com/quadnine.policy.v1.TenantBreaker
      value:
        open_for: 3s
---
# nothing
`
	got, err := Resources("r.yaml", []byte(yaml))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d resources: %v", len(got), err)
	}
	if c := got[0].Message.(*clusterv3.Cluster); c.GetName() != "a" || c.GetConnectTimeout().AsDuration().Seconds() != 3 {
		t.Errorf("cluster %v", c)
	}
	if l := got[2].Message.(*listenerv3.Listener); l.GetName() != "in" {
		t.Errorf("listener %v", l)
	}
	for path, want := range map[string]string{
		"":                "r.yaml:9",
		"name":            "r.yaml:10",
		"filterChains[0]": "r.yaml:12",
		"filter_chains[0].filters[0].typed_config":                 "r.yaml:14",
		"filter_chains[0].filters[0].typed_config.openFor":         "r.yaml:18",
		"filter_chains[0].filters[7].typed_config":                 "r.yaml:12",
		`filter_chains[0].filters[0].typed_config["no.such"].here`: "r.yaml:14",
	} {
		if at := got[2].At(path); at != want {
			t.Errorf("%s is at %s, want %s", path, at, want)
		}
	}
}

func TestResourcesThatAreWrong(t *testing.T) {
	const cluster = `"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster` + "\n"
	for text, want := range map[string]string{
		"- 1":                "r.yaml:1: is no resource",
		"text":               "r.yaml:1: is neither a resource nor a list",
		"a: 1":               `r.yaml:1: has neither "@type" nor "resources"`,
		"resources: 1":       "r.yaml:1: resources is not a list",
		"resources: []\nb:":  "r.yaml:2: b stands beside",
		"- name: a":          `r.yaml:1: has no "@type"`,
		"\"@type\": x/y.z":   "r.yaml:1: @type x/y.z is not known here",
		"\n- [":              "r.yaml:2: ",
		cluster + "title: a": "r.yaml:2: title is no field of envoy.config.cluster.v3.Cluster",
		cluster + "name: a\ncircuit_breakers:\n  thresholds:\n  - max_requests: 1\n  - priority: HUGE": "r.yaml:6: circuit_breakers.thresholds[1].priority: invalid value",
		cluster + "connect_timeout: 3":                  "r.yaml:2: connect_timeout: ",
		cluster + "metadata: {filter_metadata: {a: 1}}": "r.yaml:2: metadata.filter_metadata[a]",
		cluster + "typed_extension_protocol_options:\n  x: {\"@type\": type.googleapis.com/envoy.config.core.v3.Address,\n    socket_address: {port_value: -1}}": "r.yaml:4: typed_extension_protocol_options[x].socket_address.port_value: ",
		cluster + "typed_extension_protocol_options: {x: {\"@type\": a/b}}":                                                                                      "r.yaml:2: typed_extension_protocol_options[x] is of type a/b, which is not known here",
	} {
		got, err := Resources("r.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q; got %v", text, err, want, got)
		}
	}
}
