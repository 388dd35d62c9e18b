package compile

import (
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

const (
	ownBreaker = `{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","failureThreshold":9,"window":"10s","tenant":[{"header":"x-org"}],"requireTenant":true}`
	ownCache   = `{"@type":"type.googleapis.com/quadnine.policy.v1.ResponseCache","ttl":"5s"}`
	ownModel   = `{"@type":"type.googleapis.com/quadnine.model.v1.ModelRouting","model":"m","mode":"ROUTED","canaryWeight":12.5,"canaryRuntimeKey":"k"}`
)

// quadnine's own messages are filters of a listener, as messages and as
// TypedStruct of either package.
func TestOwnFiltersOfAListener(t *testing.T) {
	for name, config := range map[string]string{
		"Any":  ownBreaker,
		"xds":  `{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","value":{"failureThreshold":9,"window":"10s","tenant":[{"header":"x-org"}],"requireTenant":true}}`,
		"udpa": `{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct","typeUrl":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","value":{"failure_threshold":9,"window":"10s","tenant":[{"header":"x-org"}],"require_tenant":true}}`,
	} {
		l := listenerOf(t, withFilters("", `{"name":"b","isOptional":true,"typedConfig":`+config+`},{"name":"c","typedConfig":`+ownCache+`,"disabled":true},{"name":"m","typedConfig":`+ownModel+`},`))
		if l.Breaker == nil || l.Breaker.Scope != "listener/l0" || l.Breaker.Config.FailureThreshold != 9 || l.Breaker.Config.Window != 10*time.Second || l.Breaker.Config.OpenFor != 30*time.Second || l.Breaker.Disabled {
			t.Errorf("%s: breaker is %+v", name, l.Breaker)
		}
		if !l.Keys.RequireTenant || len(l.Keys.Tenant) != 1 || l.Keys.Tenant[0] != (snapshot.KeySource{Kind: snapshot.FromHeader, Name: "x-org"}) || len(l.Keys.Metric) != 2 {
			t.Errorf("%s: keys are %+v", name, l.Keys)
		}
		if l.Cache == nil || !l.Cache.Disabled || l.Cache.Config.TTL != 5*time.Second || l.Cache.Scope != "listener/l0" {
			t.Errorf("%s: cache is %+v", name, l.Cache)
		}
		if want := (snapshot.ModelRouting{Model: "m", Mode: snapshot.ModelRouted, Weight: 12.5, HasWeight: true, WeightKey: "k"}); l.Model == nil || *l.Model != want {
			t.Errorf("%s: model is %+v", name, l.Model)
		}
		if len(l.HTTP.Filters) != 0 {
			t.Errorf("%s: filters are %+v", name, l.HTTP.Filters)
		}
	}
}

// A route overrides them in its filter configuration, wrapped or not, or in its
// metadata, where the filter configuration wins.
func TestOverridesOfARoute(t *testing.T) {
	const breaker = `{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","failureThreshold":2}`
	const other = `{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","failureThreshold":3}`
	wrapped := func(fields string) string {
		return `{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig",` + fields + `}`
	}
	route := func(fields string) string {
		return `{"match":{"prefix":"/"},"route":{"cluster":"a"},` + fields + `}`
	}
	for name, tc := range map[string]struct {
		fields    string
		threshold int
		disabled  bool
	}{
		"bare":             {`"typedPerFilterConfig":{"b":` + breaker + `}`, 2, false},
		"optional":         {`"typedPerFilterConfig":{"b":` + wrapped(`"isOptional":true,"config":`+breaker) + `}`, 2, false},
		"TypedStruct":      {`"typedPerFilterConfig":{"b":` + wrapped(`"isOptional":true,"config":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/quadnine.policy.v1.TenantBreaker","value":{"failureThreshold":2}}`) + `}`, 2, false},
		"disabled":         {`"typedPerFilterConfig":{"b":` + wrapped(`"disabled":true,"config":`+breaker) + `}`, 0, true},
		"disabled by name": {`"typedPerFilterConfig":{"quadnine.tenant_breaker":` + wrapped(`"disabled":true`) + `}`, 0, true},
		"metadata":         {`"metadata":{"typedFilterMetadata":{"quadnine.breaker":` + breaker + `}}`, 2, false},
		"config over meta": {`"typedPerFilterConfig":{"b":` + breaker + `},"metadata":{"typedFilterMetadata":{"quadnine":` + other + `}}`, 2, false},
		"others' metadata": {`"typedPerFilterConfig":{"b":` + breaker + `},"metadata":{"typedFilterMetadata":{"x":` + ownCache + `},"filterMetadata":{"quadnine":{"a":1}}}`, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := hostOf(t, route(tc.fields)).Routes[0]
			if r.Breaker == nil || r.Breaker.Config.FailureThreshold != tc.threshold || r.Breaker.Disabled != tc.disabled || r.Cache != nil {
				t.Fatalf("policies are %+v", r.Breaker)
			}
			if !tc.disabled && !strings.HasPrefix(r.Breaker.Scope, "override/") {
				t.Errorf("scope is %q", r.Breaker.Scope)
			}
		})
	}
	v := hostOf(t, route(`"typedPerFilterConfig":{"b":`+breaker+`}`)+`,`+route(`"typedPerFilterConfig":{"z":`+breaker+`}`)+`,`+route(`"typedPerFilterConfig":{"b":`+other+`}`))
	if a, b, c := v.Routes[0].Breaker.Scope, v.Routes[1].Breaker.Scope, v.Routes[2].Breaker.Scope; a != b || a == c {
		t.Errorf("scopes are %q, %q and %q: want one for what says the same", a, b, c)
	}
}

// A virtual host and a weighted cluster override too, and a cluster names a model.
func TestOverridesElsewhere(t *testing.T) {
	table, _, err := New().Routes(routeWire(t, `{"name":"r0","virtualHosts":[{"name":"v","domains":["*"],"typedPerFilterConfig":{"c":`+ownCache+`},"routes":[{"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[
		{"name":"a","weight":1,"typedPerFilterConfig":{"m":`+ownModel+`}}]}}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if v := table.Hosts[0]; v.Cache == nil || v.Cache.Config.TTL != 5*time.Second || v.Routes[0].Forward.Weighted[0].Model == nil {
		t.Errorf("policies are %+v", v)
	}
	if c := clusterOf(t, `{"name":"c0","metadata":{"typedFilterMetadata":{"quadnine.model":`+ownModel+`}}}`); c.Model == nil || c.Model.Model != "m" {
		t.Errorf("model is %+v", c.Model)
	}
	l := listenerOf(t, strings.Replace(withManager(""), `"name":"l0",`, `"name":"l0","metadata":{"typedFilterMetadata":{"quadnine":`+ownBreaker+`}},`, 1))
	if l.Breaker == nil || l.Breaker.Scope != "listener/l0" || !l.Keys.RequireTenant {
		t.Errorf("breaker is %+v", l.Breaker)
	}
}

// What is out of bounds is refused by its path, with the bounds of quadnine.yaml.
func TestOwnMessagesOutOfBounds(t *testing.T) {
	route := func(config string) string {
		return oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a"},"typedPerFilterConfig":{"x":` + config + `}}`)
	}
	const at = `virtual_hosts[0].routes[0].typed_per_filter_config["x"]`
	for _, tc := range []struct{ kind, text, path, reason string }{
		{"table", route(`{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","window":"0.001s"}`), at + ".window", "want 100ms to"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","window":"9223372037s"}`), at + ".window", "want 100ms to"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","tenant":[{"header":"x"}]}`), at, "only a listener can"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.policy.v1.ResponseCache","maxBytes":1}`), at + ".maxBytes", "want 65536 to"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.model.v1.ModelRouting","canaryWeight":101}`), at + ".canary_weight", "want 0 to 100"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.model.v1.ModelRouting","canaryWeight":"NaN"}`), at + ".canary_weight", "want 0 to 100"},
		{"table", route(`{"@type":"type.googleapis.com/quadnine.model.v1.ModelRouting","mode":99}`), at + ".mode", "is 99"},
		{"table", route(`{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/quadnine.policy.v1.ResponseCache","value":{"tll":"1s"}}`), at, "unknown field"},
		{"table", route(`{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig","isOptional":true}`), at + ".config", "Empty route/virtual host per filter configuration for x filter"},
		{"table", route(`{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Filter"}`), at, "unsupported (set to own.Filter)"},
		{"listener", withFilters("", `{"name":"b","typedConfig":{"@type":"type.googleapis.com/quadnine.policy.v1.TenantBreaker","tenant":[{"header":"X-Org"}]}},`), "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.tenant.0.header", "lower case"},
		{"cluster", `{"name":"c0","metadata":{"typedFilterMetadata":{"quadnine.cache":` + ownCache + `}}}`, "metadata.typed_filter_metadata", "takes only"},
		{"cluster", `{"name":"c0","metadata":{"typedFilterMetadata":{"quadnine.x":{"@type":"type.googleapis.com/google.protobuf.Empty"}}}}`, `metadata.typed_filter_metadata["quadnine.x"]`, "unsupported"},
	} {
		got := Reasons(take(t, tc.kind, tc.text))
		if len(got) == 0 || got[0].Path != tc.path || !strings.Contains(strings.ReplaceAll(got[0].Reason, "\u00a0", " "), tc.reason) {
			t.Errorf("%s\ngot %v\nwant %s: …%s…", tc.text, got, tc.path, tc.reason)
		}
	}
}

// Filters that nobody here knows are skipped when they are optional, and Istio's
// own always; with a note each.
func TestFiltersThatAreSkipped(t *testing.T) {
	unknown := func(more string) string {
		return withFilters("", `{"name":"other"`+more+`,"typedConfig":{"@type":"type.googleapis.com/xds.type.v3.TypedStruct","typeUrl":"x/own.Filter"}},`)
	}
	_, notes, err := New().Listener(listenerWire(t, unknown(`,"isOptional":true`)))
	if err != nil || len(notes.Ignored) != 1 || !strings.Contains(notes.Ignored[0], "http_filters[] (set to other): it is optional") {
		t.Errorf("got %v, %v", notes, err)
	}
	if err := take(t, "listener", unknown("")); err == nil || !strings.Contains(err.Error(), "unsupported: listener \"l0\" filter_chains[0].filters[0].typed_config.http_filters[0] (set to other)") {
		t.Errorf("got %v", err)
	}
	_, notes, err = New().Listener(listenerWire(t, withFilters("", `{"name":"istio.metadata_exchange","typedConfig":{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct","typeUrl":"type.googleapis.com/io.istio.http.peer_metadata.Config","value":{}}},
		{"name":"istio.stats","typedConfig":{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct","typeUrl":"type.googleapis.com/stats.PluginConfig","value":{}}},`)))
	if err != nil || len(notes.Ignored) == 0 {
		t.Errorf("Istio's filters: %v, %v", notes, err)
	}
}
