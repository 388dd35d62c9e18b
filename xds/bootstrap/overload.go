package bootstrap

import (
	"fmt"
	"math"
	"strconv"

	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	cgroupv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/cgroup_memory/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Overload is what a bootstrap says of limits of the whole process: its
// overload_manager, and the runtime key of old.
type Overload struct {
	MaxConnections int64           // of callers; 0: nothing is said
	Memory         []MemoryLimit   // resource monitors
	Triggers       []MemoryTrigger // of actions that there are here
}

// MemoryLimit is a resource monitor of memory.
type MemoryLimit struct {
	Name   string
	Max    int64 // bytes; 0: the control group's own limit
	Cgroup bool  // cgroup_memory; otherwise fixed_heap
}

// MemoryTrigger takes an action while a monitor's pressure, a share of its limit,
// is above From: always from Full on.
type MemoryTrigger struct {
	Action     string // ActionStopRequests and so on
	Monitor    string
	From, Full float64
}

// The actions of envoy.overload_actions that there are here.
const (
	ActionStopRequests      = "envoy.overload_actions.stop_accepting_requests"
	ActionStopConnections   = "envoy.overload_actions.stop_accepting_connections"
	ActionRejectConnections = "envoy.overload_actions.reject_incoming_connections"
	ActionNoKeepAlive       = "envoy.overload_actions.disable_http_keepalive"
)

// idleActions are the others, and why they are not needed.
var idleActions = map[string]string{
	"envoy.overload_actions.shrink_heap":              "the runtime gives memory back by itself",
	"envoy.overload_actions.reduce_timeouts":          "time-outs stay what they are; new work is refused instead",
	"envoy.overload_actions.reset_high_memory_stream": "old streams go on; new work is refused instead",
}

const maxConnectionsKey = "overload.global_downstream_max_connections"

// overload takes what is used of m and of the runtime's static layers.
func (b *Bootstrap) overload(m *overloadv3.OverloadManager, fail func(path, format string, args ...any)) {
	o := &b.Overload
	warn := func(path, what string) {
		b.Warnings = append(b.Warnings, Warning{"bootstrap", path, "has no effect: " + what})
	}
	for _, l := range b.Layers { // a later layer lies over an earlier one
		if n, ok := runtimeNumber(l.Static); ok {
			o.MaxConnections = n
		}
	}
	known := make(map[string]bool)
	for i, r := range m.GetResourceMonitors() {
		path := fmt.Sprintf("overload_manager.resource_monitors[%d]", i)
		config, err := r.GetTypedConfig().UnmarshalNew()
		if err != nil {
			fail(path+".typed_config", "cannot be read: %v", err)
			continue
		}
		if known[r.GetName()] {
			fail(path+".name", "%q stands there twice", r.GetName())
		}
		known[r.GetName()] = true
		limit := MemoryLimit{Name: r.GetName()}
		switch config := config.(type) {
		case *heapv3.FixedHeapConfig:
			limit.Max = int64(min(config.GetMaxHeapSizeBytes(), math.MaxInt64))
			if limit.Max == 0 {
				fail(path+".typed_config.max_heap_size_bytes", "is 0: give the heap a size")
			}
			o.Memory = append(o.Memory, limit)
		case *cgroupv3.CgroupMemoryConfig:
			limit.Max, limit.Cgroup = int64(min(config.GetMaxMemoryBytes(), math.MaxInt64)), true
			o.Memory = append(o.Memory, limit)
		case *downstreamv3.DownstreamConnectionsConfig:
			if o.MaxConnections = config.GetMaxActiveDownstreamConnections(); o.MaxConnections <= 0 {
				fail(path+".typed_config.max_active_downstream_connections", "is not above 0")
			}
			known[r.GetName()] = false // no action follows from it, in Envoy neither
		default:
			known[r.GetName()] = false
			warn(path, "of resources, memory and callers' connections are watched")
		}
	}
	for i, a := range m.GetActions() {
		path := fmt.Sprintf("overload_manager.actions[%d]", i)
		switch a.GetName() {
		case ActionStopRequests, ActionStopConnections, ActionRejectConnections, ActionNoKeepAlive:
		default:
			why := idleActions[a.GetName()]
			if why == "" {
				why = "there is no action " + strconv.Quote(a.GetName())
			}
			warn(path, why)
			continue
		}
		for j, t := range a.GetTriggers() {
			at := fmt.Sprintf("%s.triggers[%d]", path, j)
			out := MemoryTrigger{Action: a.GetName(), Monitor: t.GetName(), From: t.GetThreshold().GetValue(), Full: t.GetThreshold().GetValue()}
			if s := t.GetScaled(); s != nil {
				out.From, out.Full = s.GetScalingThreshold(), s.GetSaturationThreshold()
				if out.From >= out.Full {
					fail(at+".scaled", "has a scaling_threshold that is not below its saturation_threshold")
				}
			} else if t.GetThreshold() == nil {
				fail(at, "has neither threshold nor scaled")
			}
			if !(out.From >= 0 && out.Full <= 1) { // NaN neither
				fail(at, "is not between 0 and 1: it is a share of the monitor's limit")
			}
			watched, there := known[t.GetName()]
			switch {
			case !there:
				fail(at+".name", "names resource monitor %q, which there is not", t.GetName())
			case !watched:
				warn(at, "its resource monitor is not watched")
			default:
				o.Triggers = append(o.Triggers, out)
			}
		}
	}
}

// runtimeNumber finds the runtime's limit of connections, which Envoy takes as a
// number or as text.
func runtimeNumber(s *structpb.Struct) (int64, bool) {
	v := s.GetFields()[maxConnectionsKey]
	n, err := strconv.ParseInt(v.GetStringValue(), 10, 64)
	if v.GetStringValue() == "" {
		n, err = int64(v.GetNumberValue()), nil
	}
	return n, err == nil && n > 0
}
