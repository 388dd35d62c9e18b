package compile

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quadnine/quadnine/snapshot"
)

// Envoy's defaults of load balancing.
const (
	panicPercent = 50
	choices      = 2
)

// balance compiles how endpoints are chosen: load_balancing_policy where it is
// set, and lb_policy otherwise.
func (r *review) balance(m *clusterv3.Cluster) snapshot.Balance {
	var p *at
	common := m.GetCommonLbConfig()
	out := snapshot.Balance{Policy: snapshot.RoundRobin, Panic: panicPercent, ByLocality: common.GetLocalityWeightedLbConfig() != nil}
	if v := common.GetHealthyPanicThreshold(); v != nil {
		out.Panic = v.GetValue()
	}
	if policy := m.GetLoadBalancingPolicy(); policy != nil {
		out.ByLocality = false
		r.policyList(policy, p.f("load_balancing_policy"), &out)
		return out
	}
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
	case clusterv3.Cluster_LEAST_REQUEST:
		out.Policy, out.Choices = snapshot.LeastRequest, choiceCount(m.GetLeastRequestLbConfig().GetChoiceCount())
	case clusterv3.Cluster_RANDOM:
		out.Policy = snapshot.Random
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		r.fail(p.f("load_balancing_policy"), "", "cluster: LOAD_BALANCING_POLICY_CONFIG set without load_balancing_policy")
	default:
		r.refuse(p.f("lb_policy"), m.GetLbPolicy().String(), "use ROUND_ROBIN, LEAST_REQUEST or RANDOM")
	}
	return out
}

// policyList takes the first policy of the list that is supported.
func (r *review) policyList(m *clusterv3.LoadBalancingPolicy, p *at, out *snapshot.Balance) {
	var names []string
	for i, one := range m.GetPolicies() {
		e := one.GetTypedExtensionConfig()
		at := p.i("policies", i).f("typed_extension_config")
		x, ok := r.open(e.GetTypedConfig(), at.f("typed_config"))
		if !ok {
			return
		}
		at = at.f("typed_config")
		switch x.name {
		case "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin":
			c := new(roundv3.RoundRobin)
			if r.into(x, c, at) {
				out.Policy = snapshot.RoundRobin
				byLocality(c.GetLocalityLbConfig(), out)
			}
			return
		case "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest":
			c := new(leastv3.LeastRequest)
			if r.into(x, c, at) {
				out.Policy, out.Choices = snapshot.LeastRequest, choiceCount(c.GetChoiceCount())
				byLocality(c.GetLocalityLbConfig(), out)
			}
			return
		case "envoy.extensions.load_balancing_policies.random.v3.Random":
			c := new(randomv3.Random)
			if r.into(x, c, at) {
				out.Policy = snapshot.Random
				byLocality(c.GetLocalityLbConfig(), out)
			}
			return
		}
		names = append(names, nameOf(e.GetName(), x))
	}
	r.refuse(p, strings.Join(names, ", "), "list round_robin, least_request or random")
}

func byLocality(m *commonv3.LocalityLbConfig, out *snapshot.Balance) {
	out.ByLocality = m.GetLocalityWeightedLbConfig() != nil
}

func choiceCount(v *wrapperspb.UInt32Value) uint32 {
	if v == nil {
		return choices
	}
	return max(v.GetValue(), choices)
}
