package bootstrap

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const heapMonitor = `{name: heap, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}`

// TestOverload: monitors of memory and connections, and the actions that follow.
func TestOverload(t *testing.T) {
	text := minimal + `overload_manager:
  resource_monitors:
  - ` + heapMonitor + `
  - {name: group, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig}}
  - {name: conns, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 77}}
  - {name: cpu, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig}}
  actions:
  - {name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: 0.9}}, {name: cpu, threshold: {value: 0.5}}]}
  - {name: envoy.overload_actions.disable_http_keepalive, triggers: [{name: group, scaled: {scaling_threshold: 0.8, saturation_threshold: 0.95}}]}
  - {name: envoy.overload_actions.shrink_heap, triggers: [{name: heap, threshold: {value: 0.9}}]}
`
	b, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	want := Overload{
		MaxConnections: 77,
		Memory:         []MemoryLimit{{Name: "heap", Max: 1000}, {Name: "group", Cgroup: true}},
		Triggers:       []MemoryTrigger{{ActionStopRequests, "heap", 0.9, 0.9}, {ActionNoKeepAlive, "group", 0.8, 0.95}},
	}
	if got := fmt.Sprintf("%+v", b.Overload); got != fmt.Sprintf("%+v", want) {
		t.Errorf("%s\nwant %+v", got, want)
	}
	var got []string
	for _, w := range b.Warnings {
		got = append(got, w.String())
	}
	if want := []string{
		"bootstrap: overload_manager.resource_monitors[3] has no effect: of resources, memory and callers' connections are watched",
		"bootstrap: overload_manager.actions[0].triggers[1] has no effect: its resource monitor is not watched",
		"bootstrap: overload_manager.actions[2] has no effect: the runtime gives memory back by itself",
	}; !slices.Equal(got, want) {
		t.Errorf("warnings %q\nwant %q", got, want)
	}
}

// TestRuntimeLimitOfConnections: as Istio sets it; the overload manager's own lies
// over it.
func TestRuntimeLimitOfConnections(t *testing.T) {
	for value, want := range map[string]int64{"12": 12, "'34'": 34, "0": 0, "many": 0} {
		text := strings.Replace(minimal, "{a: {b: 3}}", "{overload.global_downstream_max_connections: "+value+"}", 1)
		b, err := load(t, text)
		if err != nil || b.Overload.MaxConnections != want {
			t.Errorf("%s: %d, %v", value, b.Overload.MaxConnections, err)
		}
	}
}

func TestBadOverload(t *testing.T) {
	for in, want := range map[string]string{
		`{resource_monitors: [` + heapMonitor + `, ` + heapMonitor + `]}`:                                                                                                                                       `resource_monitors[1].name "heap" stands there twice`,
		`{resource_monitors: [{name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig}}]}`:                                                       "max_heap_size_bytes is 0",
		`{resource_monitors: [{name: c, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig}}]}`:                               "max_active_downstream_connections is not above 0",
		`{actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: x, threshold: {value: 1}}]}]}`:                                                                                     `actions[0].triggers[0].name names resource monitor "x", which there is not`,
		`{resource_monitors: [` + heapMonitor + `], actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap}]}]}`:                                                               "has neither threshold nor scaled",
		`{resource_monitors: [` + heapMonitor + `], actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, scaled: {scaling_threshold: 0.5}}]}]}`:                             "not below its saturation_threshold",
		`{resource_monitors: [` + heapMonitor + `], actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: 95}}]}]}`:                                       "triggers[0] is not between 0 and 1",
		`{resource_monitors: [` + heapMonitor + `], actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: NaN}}]}]}`:                                      "triggers[0] is not between 0 and 1",
		`{resource_monitors: [` + heapMonitor + `], actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, scaled: {scaling_threshold: -0.5, saturation_threshold: 0.5}}]}]}`: "triggers[0] is not between 0 and 1",
	} {
		if _, err := load(t, minimal+"overload_manager: "+in+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant %s", in, err, want)
		}
	}
}
