package compile

import (
	"strings"
	"testing"
)

// cluster is a cluster that says fields besides its name.
func cluster(fields string) string { return `{"name":"c0",` + fields + `}` }

// endpoint is an assignment with one endpoint at host:port of a priority.
func endpoints(priority, host, port string) string {
	return `{"priority":` + priority + `,"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"` + host + `","portValue":` + port + `}}}}]}`
}

// Each verdict is Envoy's, unless the field is not supported here: then it is
// refused by its path.
func TestVerdicts(t *testing.T) {
	const forward = `"route":{"cluster":"a"}`
	for _, tc := range []struct {
		name, kind, text string
		path, reason     string // both "": taken
	}{
		{"priority gap", "assignment", `{"clusterName":"c0","endpoints":[` + endpoints("0", "127.0.0.1", "80") + `,` + endpoints("2", "127.0.0.1", "81") + `]}`, "", ""},
		{"empty assignment", "assignment", `{"clusterName":"c0"}`, "", ""},
		{"name instead of an address", "assignment", `{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`, "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address", "malformed IP address: foo.local"},
		{"port out of range", "assignment", `{"clusterName":"c0","endpoints":[` + endpoints("0", "127.0.0.1", "70000") + `]}`, "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value", "less than or equal to 65535"},
		{"priority out of range", "assignment", `{"clusterName":"c0","endpoints":[` + endpoints("129", "127.0.0.1", "80") + `]}`, "endpoints[0].priority", "less than or equal to 128"},
		{"endpoint without an address", "assignment", `{"clusterName":"c0","endpoints":[{"lbEndpoints":[{"endpoint":{}}]}]}`, "endpoints[0].lb_endpoints[0].endpoint.address", "is not set"},
		{"assignment without a name", "assignment", `{}`, "cluster_name", "at least 1"},
		{"share of requests dropped", "assignment", `{"clusterName":"c0","policy":{"dropOverloads":[{"category":"x"}]}}`, "policy.drop_overloads", "unsupported (set to 1 of them)"},

		{"no domains", "table", `{"name":"r0","virtualHosts":[{"name":"v"}]}`, "virtual_hosts[0].domains", "at least 1 item"},
		{"two of all domains", "table", `{"name":"r0","virtualHosts":[{"name":"v","domains":["*"]},{"name":"w","domains":["*"]}]}`, "virtual_hosts[1].domains[0]", "Only a single wildcard domain is permitted in route r0"},
		{"domain twice", "table", `{"name":"r0","virtualHosts":[{"name":"v","domains":["a.com"]},{"name":"w","domains":["b.com","A.com"]}]}`, "virtual_hosts[1].domains[1]", "Duplicate entry of domain A.com"},
		{"two virtual hosts of one name", "table", `{"name":"r0","virtualHosts":[{"name":"v","domains":["a.com"]},{"name":"v","domains":["b.com"]}]}`, "", ""},
		{"weights of nothing", "table", oneHost(`{"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[{"name":"a","weight":0}]}}}`), "virtual_hosts[0].routes[0].route.weighted_clusters", "greater than 0"},
		{"weights past 32 bits", "table", oneHost(`{"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[{"name":"a","weight":4294967295},{"name":"b","weight":1}]}}}`), "virtual_hosts[0].routes[0].route.weighted_clusters", "exceeds 4294967295"},
		{"weighted cluster without a name", "table", oneHost(`{"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[{"weight":1}]}}}`), "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0]", "one of name and cluster_header"},
		{"bad pattern", "table", oneHost(`{"match":{"safeRegex":{"regex":"["}},` + forward + `}`), "virtual_hosts[0].routes[0].match.safe_regex.regex", "missing closing ]"},
		{"lookahead", "table", oneHost(`{"match":{"safeRegex":{"regex":"a(?=b)"}},` + forward + `}`), "virtual_hosts[0].routes[0].match.safe_regex.regex", "(?="},
		{"pattern that closes our group", "table", oneHost(`{"match":{"safeRegex":{"regex":"a)|(b"}},` + forward + `}`), "virtual_hosts[0].routes[0].match.safe_regex.regex", "unexpected )"},
		{"route without a match", "table", oneHost(`{` + forward + `}`), "virtual_hosts[0].routes[0].match", "required"},
		{"route without an action", "table", oneHost(`{"match":{"prefix":"/"}}`), "virtual_hosts[0].routes[0].action", "required"},
		{"path without a specifier", "table", oneHost(`{"match":{},` + forward + `}`), "virtual_hosts[0].routes[0].match.path_specifier", "required"},
		{"segment prefix with a slash at its end", "table", oneHost(`{"match":{"pathSeparatedPrefix":"/a/"},` + forward + `}`), "virtual_hosts[0].routes[0].match.path_separated_prefix", "regex pattern"},
		{"two ways to rewrite", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","prefixRewrite":"/x","regexRewrite":{"pattern":{"regex":"a"},"substitution":"b"}}}`), "virtual_hosts[0].routes[0].route.regex_rewrite", "specify only one"},
		{"line break in a substitution", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","regexRewrite":{"pattern":{"regex":"a"},"substitution":"\n"}}}`), "virtual_hosts[0].routes[0].route.regex_rewrite.substitution", ""},
		{"pseudo field added", "table", oneHost(`{"match":{"prefix":"/"},` + forward + `,"requestHeadersToAdd":[{"header":{"key":":path","value":"/x"}}]}`), "virtual_hosts[0].routes[0].request_headers_to_add[0].header.key", "may not be modified"},
		{"host removed", "table", oneHost(`{"match":{"prefix":"/"},` + forward + `,"requestHeadersToRemove":["Host"]}`), "virtual_hosts[0].routes[0].request_headers_to_remove[0]", "may not be removed"},
		{"append both ways", "table", oneHost(`{"match":{"prefix":"/"},` + forward + `,"requestHeadersToAdd":[{"header":{"key":"x","value":"y"},"append":true,"appendAction":"ADD_IF_ABSENT"}]}`), "virtual_hosts[0].routes[0].request_headers_to_add[0].append", "both append and append_action"},
		{"unknown operator", "table", oneHost(`{"match":{"prefix":"/"},` + forward + `,"requestHeadersToAdd":[{"header":{"key":"x","value":"%NOTHING_LIKE_IT%"}}]}`), "virtual_hosts[0].routes[0].request_headers_to_add[0].header.value", ""},
		{"body past its bound", "table", oneHost(`{"match":{"prefix":"/"},"directResponse":{"status":200,"body":{"inlineString":"` + strings.Repeat("x", 4097) + `"}}}`), "virtual_hosts[0].routes[0].direct_response.body", "response body size is 4097 bytes; maximum is 4096"},
		{"bound of the body raised", "table", `{"name":"r0","maxDirectResponseBodySizeBytes":5000,"virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"directResponse":{"status":200,"body":{"inlineString":"` + strings.Repeat("x", 4097) + `"}}}]}]}`, "", ""},
		{"status out of range", "table", oneHost(`{"match":{"prefix":"/"},"directResponse":{"status":99}}`), "virtual_hosts[0].routes[0].direct_response.status", "inside range"},
		{"unknown cluster", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"nobody"}}`), "", ""},
		{"retries", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx,http3-post-connect-failure"}}}`), "", ""},
		{"retry conditions with spaces", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx, reset"}}}`), "", ""},
		{"retry condition", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx,5xy"}}}`), "virtual_hosts[0].routes[0].route.retry_policy.retry_on", "unsupported (set to 5xy)"},
		{"retry priority", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx","retryPriority":{"name":"p"}}}}`), "virtual_hosts[0].routes[0].route.retry_policy.retry_priority", "unsupported (set to p)"},
		{"retry host predicate", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx","retryHostPredicate":[{"name":"p"}]}}}`), "virtual_hosts[0].routes[0].route.retry_policy.retry_host_predicate[0]", "unsupported (set to p)"},
		{"retry back-off", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx","retryBackOff":{"baseInterval":"2s","maxInterval":"1s"}}}}`), "virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.max_interval", "retry_policy.max_interval must greater than or equal to the base_interval"},
		{"retry after another time-out", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","retryPolicy":{"retryOn":"5xx","perTryIdleTimeout":"1s"}}}`), "virtual_hosts[0].routes[0].route.retry_policy.per_try_idle_timeout", "unsupported (set to 1s)"},
		{"header of gRPC", "table", oneHost(`{"match":{"prefix":"/","grpc":{}},` + forward + `}`), "virtual_hosts[0].routes[0].match.grpc", "unsupported"},
		{"body from a file", "table", oneHost(`{"match":{"prefix":"/"},"directResponse":{"status":200,"body":{"filename":"/etc/passwd"}}}`), "virtual_hosts[0].routes[0].direct_response.body.filename", "unsupported"},
		{"negative timeout", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","timeout":"-1s"}}`), "virtual_hosts[0].routes[0].route.timeout", "no duration"},
		{"timeout past 64 bits", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","timeout":"9223372037s"}}`), "virtual_hosts[0].routes[0].route.timeout", "want less than"},

		{"static cluster of names", "cluster", cluster(`"type":"STATIC","loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`), "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address", "malformed IP address"},
		{"names to resolve", "cluster", cluster(`"type":"STRICT_DNS","loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`), "", ""},
		{"one of a name's addresses", "cluster", cluster(`"type":"LOGICAL_DNS","loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`), "", ""},
		{"one of the addresses of two names", "cluster", cluster(`"type":"LOGICAL_DNS","loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `,` + endpoints("0", "bar.local", "80") + `]}`), "load_assignment", "must have a single"},
		{"names by extension", "cluster", cluster(`"clusterType":{"name":"envoy.cluster.dns","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster","allAddressesInSingleEndpoint":true}},"loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`), "", ""},
		{"own type of cluster", "cluster", cluster(`"clusterType":{"name":"own","typedConfig":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Cluster"}}`), "cluster_type", "unsupported (set to own)"},
		{"assignment's name beside the cluster", "cluster", cluster(`"type":"EDS"`), "eds_cluster_config.eds_config", "names no source"},
		{"endpoints by name in a static cluster", "cluster", cluster(`"edsClusterConfig":{"edsConfig":{"ads":{}}}`), "eds_cluster_config", "eds_cluster_config set in a non-EDS cluster"},
		{"endpoints from another stream", "cluster", cluster(`"type":"EDS","edsClusterConfig":{"edsConfig":{"apiConfigSource":{"apiType":"GRPC"}}}`), "eds_cluster_config.eds_config.api_config_source", "unsupported"},
		{"redirected connections", "cluster", cluster(`"type":"ORIGINAL_DST"`), "type", "unsupported (set to ORIGINAL_DST)"},
		{"cluster in plain text", "cluster", cluster(`"transportSocket":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`), "", ""},
		{"no time to connect", "cluster", cluster(`"connectTimeout":"0s"`), "connect_timeout", "greater than 0"},
		{"hashed choice", "cluster", cluster(`"lbPolicy":"RING_HASH"`), "lb_policy", "unsupported (set to RING_HASH)"},
		{"own policy before round robin", "cluster", cluster(`"loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"own","typedConfig":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Policy"}}},{"typedExtensionConfig":{"name":"rr","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"}}}]}`), "", ""},
		{"own policy alone", "cluster", cluster(`"loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"own","typedConfig":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Policy"}}}]}`), "load_balancing_policy", "unsupported"},
		{"own protocol options", "cluster", cluster(`"typedExtensionProtocolOptions":{"own":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Options"}}`), `typed_extension_protocol_options["own"]`, "unsupported (set to own.Options)"},
		{"outlier detection", "cluster", cluster(`"outlierDetection":{}`), "outlier_detection", "unsupported"},

		{"listener without chains", "listener", `{"name":"l0","address":{"socketAddress":{"address":"127.0.0.1","portValue":1}}}`, "filter_chains", "no filter chains specified"},
		{"listener without an address", "listener", `{"name":"l0"}`, "address", "is not set"},
		{"listener at a name", "listener", strings.Replace(withManager(""), "127.0.0.1", "localhost", 1), "address.socket_address.address", "malformed IP address: localhost"},
		{"router not at the end", "listener", withFilters("", `{"name":"r","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},`), "filter_chains[0].filters[0].typed_config.http_filters[0]", "terminal filter must be the last"},
		{"upgrades", "listener", withManager(`"upgradeConfigs":[{"upgradeType":"websocket"},{"upgradeType":"mine","enabled":false}]`), "", ""},
		{"upgrade twice", "listener", withManager(`"upgradeConfigs":[{"upgradeType":"websocket"},{"upgradeType":"WebSocket"}]`), "filter_chains[0].filters[0].typed_config.upgrade_configs[1].upgrade_type", "Duplicate upgrade WebSocket"},
		{"tunnels by CONNECT", "listener", withManager(`"upgradeConfigs":[{"upgradeType":"CONNECT"}]`), "filter_chains[0].filters[0].typed_config.upgrade_configs[0].upgrade_type", "unsupported (set to CONNECT)"},
		{"filters of upgrades", "listener", withManager(`"upgradeConfigs":[{"upgradeType":"websocket","filters":[{"name":"x"}]}]`), "filter_chains[0].filters[0].typed_config.upgrade_configs[0].filters", "unsupported"},
		{"route's upgrades", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","upgradeConfigs":[{"upgradeType":"websocket"}],"maxGrpcTimeout":"0s"}}`), "", ""},
		{"route's tunnels by CONNECT", "table", oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","upgradeConfigs":[{"upgradeType":"connect","connectConfig":{}}]}}`), "virtual_hosts[0].routes[0].route.upgrade_configs[0].connect_config", "unsupported"},
		{"internal addresses", "listener", withManager(`"internalAddressConfig":{"cidrRanges":[{"addressPrefix":"10.0.0.0","prefixLen":99},{"addressPrefix":"::1","prefixLen":128}]}`), "", ""},
		{"internal address that is none", "listener", withManager(`"internalAddressConfig":{"cidrRanges":[{"addressPrefix":"ten","prefixLen":8}]}`), "filter_chains[0].filters[0].typed_config.internal_address_config.cidr_ranges[0].address_prefix", "malformed IP address: ten"},
		{"internal sockets", "listener", withManager(`"internalAddressConfig":{"unixSockets":true}`), "filter_chains[0].filters[0].typed_config.internal_address_config.unix_sockets", "unsupported"},
		{"two ways to find the caller", "listener", withManager(`"useRemoteAddress":true,"originalIpDetectionExtensions":[{"name":"xff","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"}}]`), "filter_chains[0].filters[0].typed_config.original_ip_detection_extensions", "may not be mixed"},
		{"certificate forwarded on plain text", "listener", withManager(`"forwardClientCertDetails":"APPEND_FORWARD","setCurrentClientCertDetails":{"uri":true}`), "", ""},
		{"health check cached and not passed", "listener", withFilters("", `{"name":"h","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck","passThroughMode":false,"cacheTime":"1s"}},`), "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.cache_time", "must not be set"},
		{"health check without a mode", "listener", withFilters("", `{"name":"h","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck"}},`), "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.pass_through_mode", "required"},
		{"fault that is told something", "listener", withFilters("", `{"name":"f","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault","maxActiveFaults":1}},`), "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.max_active_faults", "unsupported (set to 1)"},
		{"filters that are told nothing", "listener", withFilters("", `{"name":"f","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},{"name":"c","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},`), "", ""},
		{"filter by discovery", "listener", withFilters("", `{"name":"f","isOptional":true,"configDiscovery":{"configSource":{"ads":{}},"typeUrls":["x"]}},`), "filter_chains[0].filters[0].typed_config.http_filters[0].config_discovery", "unsupported"},

		{"redirect of no kind", "table", oneHost(`{"match":{"prefix":"/"},"redirect":{"responseCode":99}}`), "virtual_hosts[0].routes[0].redirect.response_code", "defined enum values"},
		{"field added in no way", "table", oneHost(`{"match":{"prefix":"/"},` + forward + `,"requestHeadersToAdd":[{"header":{"key":"x","value":"y"},"appendAction":99}]}`), "virtual_hosts[0].routes[0].request_headers_to_add[0].append_action", "defined enum values"},
		{"family of no kind", "cluster", cluster(`"dnsLookupFamily":99`), "dns_lookup_family", "defined enum values"},
		{"policy of no kind", "cluster", cluster(`"lbPolicy":99`), "lb_policy", "defined enum values"},
		{"list in the runtime", "runtime", `{"name":"l","layer":{"a":[1]}}`, `layer["a"]`, "Invalid runtime entry value for a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := take(t, tc.kind, tc.text)
			if tc.path == "" {
				if err != nil {
					t.Fatalf("is refused: %v", err)
				}
				return
			}
			got := Reasons(err)
			if len(got) == 0 {
				t.Fatal("is taken")
			}
			if got[0].Path != tc.path || !strings.Contains(got[0].Reason, tc.reason) {
				t.Errorf("got %v\nwant %s: …%s…", err, tc.path, tc.reason)
			}
			if got[0].Resource == "" && tc.name != "assignment without a name" {
				t.Error("the error names no resource")
			}
			if len(got[0].Error()) > 1024 {
				t.Errorf("the error takes %d bytes", len(got[0].Error()))
			}
		})
	}
}
