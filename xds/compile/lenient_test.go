package compile

import (
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// TestEnvoyTakesItToo: mistakes that Envoy accepts are accepted, have the effect
// that they have there, and are noted.
func TestEnvoyTakesItToo(t *testing.T) {
	const health = `{"name":"h","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck","passThroughMode":true,"cacheTime":"1s","clusterMinHealthyPercentages":{"a":{"value":50}}}},`
	noRouter := withManager("")
	at, end := strings.Index(noRouter, `"httpFilters":[`), strings.LastIndex(noRouter, "]}}]}]}")
	noRouter = noRouter[:at] + `"httpFilters":[` + noRouter[end:]
	for _, tc := range []struct {
		name, text string
		holds      func(l *snapshot.Listener) bool
		note       string
	}{
		{"no filters", noRouter, func(l *snapshot.Listener) bool { return l.HTTP.Unanswered }, "http_filters (set to none): without a router no request is answered"},
		{
			"table without a name", withManager(`"rds":{"configSource":{"ads":{},"initialFetchTimeout":"2s"}}`),
			func(l *snapshot.Listener) bool {
				return l.RouteName == "" && l.Inline == nil && l.RouteFetch == 2*time.Second
			}, `route_config_name (set to "")`,
		},
		{
			"health of clusters that is not asked for", withFilters("", health),
			func(l *snapshot.Listener) bool {
				h := l.HTTP.Filters[0].HealthCheck
				return h.PassThrough && h.CacheFor == time.Second && h.MinHealthy == nil
			}, "cluster_min_healthy_percentages (set to percentages): pass_through_mode has the upstream answer",
		},
		{
			"group that is not there", withManager(`"routeConfig":` + oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","regexRewrite":{"pattern":{"regex":"^/a"},"substitution":"/x\\3"}}}`)),
			func(l *snapshot.Listener) bool {
				return string(l.Inline.Hosts[0].Routes[0].Forward.RegexRewrite.Apply(nil, []byte("/a/b"))) == "/a/b"
			}, "substitution (set to /x\\3): nothing is replaced",
		},
		{
			"backslash at the end", withManager(`"routeConfig":` + oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a","regexRewrite":{"pattern":{"regex":"^/a"},"substitution":"/x\\"}}}`)),
			func(l *snapshot.Listener) bool {
				return string(l.Inline.Hosts[0].Routes[0].Forward.RegexRewrite.Apply(nil, []byte("/a/b"))) == "/x/b"
			}, "substitution (set to /x\\): what stands from byte 2 on is left out",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, notes, err := New().Listener(listenerWire(t, tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.holds(l) {
				t.Errorf("compiled to %+v", l)
			}
			if said := strings.Join(notes.Ignored, "\n"); !strings.Contains(said, tc.note) {
				t.Errorf("notes %q, want %q", said, tc.note)
			}
		})
	}
}
