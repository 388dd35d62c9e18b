package compile

import (
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// overprovisioning is ClusterLoadAssignment.Policy.overprovisioning_factor's
// default, in percent.
const overprovisioning = 140

// assignment compiles the endpoints at p; names allows host names.
func (r *review) assignment(m *endpointv3.ClusterLoadAssignment, p *at, names bool) *snapshot.Assignment {
	out := &snapshot.Assignment{Overprovisioning: overprovisioning}
	if v := m.GetPolicy().GetOverprovisioningFactor(); v != nil {
		out.Overprovisioning = v.GetValue()
	}
	weights := make(map[uint32]uint64) // of localities, by priority
	for i, l := range m.GetEndpoints() {
		at := p.i("endpoints", i)
		n := len(out.Localities)
		out.Localities = append(out.Localities, snapshot.Locality{
			Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone(),
			Weight: l.GetLoadBalancingWeight().GetValue(), Priority: l.GetPriority(),
		})
		weights[l.GetPriority()] += uint64(l.GetLoadBalancingWeight().GetValue())
		if weights[l.GetPriority()] > math.MaxUint32 {
			r.fail(at.f("load_balancing_weight"), "", "The sum of weights of all localities at the same priority exceeds %d", uint32(math.MaxUint32))
		}
		var sum uint64
		for j, e := range l.GetLbEndpoints() {
			at := at.i("lb_endpoints", j)
			one := snapshot.Endpoint{Hostname: e.GetEndpoint().GetHostname(), Weight: 1, Health: health(e.GetHealthStatus()), Locality: n}
			if e.GetEndpoint() == nil {
				r.fail(at.f("endpoint"), "", "is not set")
				continue
			}
			one.Address = r.address(e.GetEndpoint().GetAddress(), at.f("endpoint").f("address"), names)
			if w := e.GetLoadBalancingWeight(); w != nil {
				one.Weight = w.GetValue()
			}
			if sum += uint64(one.Weight); sum > math.MaxUint32 {
				r.fail(at.f("load_balancing_weight"), "", "The sum of weights of all endpoints in a locality exceeds %d", uint32(math.MaxUint32))
			}
			out.Endpoints = append(out.Endpoints, one)
		}
	}
	return out
}

func health(s corev3.HealthStatus) snapshot.Health {
	switch s {
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_DRAINING, corev3.HealthStatus_TIMEOUT:
		return snapshot.Unhealthy
	case corev3.HealthStatus_DEGRADED:
		return snapshot.Degraded
	default:
		return snapshot.Healthy
	}
}
