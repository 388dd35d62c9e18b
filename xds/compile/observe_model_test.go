package compile

import (
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
)

// models has one version of the model m, which answers only where it is named.
type models struct{}

func (models) For(quadnine.Key) *proxy.Model { return nil }

func (models) Named(name string) *proxy.Model {
	if name != "m" {
		return nil
	}
	return &proxy.Model{Name: name}
}

func (models) Acquire(*proxy.Model, uint64) (proxy.Lease, bool) {
	return proxy.Lease{Version: &proxy.ModelVersion{Name: "m@2", Number: 2}}, true
}

func (m models) AcquireShare(to *proxy.Model, draw uint64, _ float64) (proxy.Lease, bool) {
	return m.Acquire(to, draw)
}

func (models) Pin(*proxy.Model, uint64) (proxy.Lease, proxy.PinResult) {
	return proxy.Lease{}, proxy.PinUnknown
}

func (models) Other(*proxy.Model, uint64) (proxy.Lease, bool) { return proxy.Lease{}, false }

func (models) TakeBack(_ *proxy.Model, number uint64, _ policy.Evidence) (uint64, error) {
	return number, nil
}

// TestModelOfACluster: metadata of a cluster says which model its app runs, for
// routes that say nothing of it.
func TestModelOfACluster(t *testing.T) {
	const mode = `{"@type": type.googleapis.com/quadnine.model.v1.ModelRouting, `
	c := observed{
		clusters: []string{`{name: c, type: STATIC, metadata: {typed_filter_metadata: {quadnine.model: ` + mode + `model: m}}}, ` + endpointsAt("10.0.0.1:80") + "}"},
		routes: `[
 {match: {prefix: /off}, route: {cluster: c}, typed_per_filter_config: {quadnine.model_routing: ` + mode + `mode: "OFF"}}},
 {match: {prefix: /weighted}, route: {weighted_clusters: {clusters: [{name: c, weight: 1}]}}},
 {match: {prefix: /header}, route: {cluster_header: x-cluster}},
 {match: {prefix: /other}, route: {cluster: a}},
 {match: {prefix: /direct}, direct_response: {status: 204}},
 {match: {prefix: /}, route: {cluster: c}}]`,
	}
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, c, func(o *proxy.Options) { o.Models = models{} })
		for path, want := range map[string]string{"/": "m@2", "/weighted": "m@2", "/header": "m@2", "/other": "", "/off": ""} {
			same(t, path, s.get(path, "x-cluster", "c").seen(t).Header.Get("X-Model-Version"), want)
		}
		s.get("/direct").is(t, 204)
		s.get("/header", "x-cluster", "none").is(t, 503)
	})
}
