package xds

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// deltaDialect is the incremental variant: requests and responses say what changed. Only
// an answer carries a nonce.
type deltaDialect struct{}

func (deltaDialect) name() string { return VariantDelta }

func (deltaDialect) lasting() bool { return true } // the newer response is about other resources

func (deltaDialect) decode(m proto.Message) (*response, bool) {
	in, ok := m.(*discoveryv3.DeltaDiscoveryResponse)
	if !ok {
		return nil, false
	}
	r := &response{
		typeURL: in.GetTypeUrl(), version: in.GetSystemVersionInfo(), nonce: in.GetNonce(),
		removed: in.GetRemovedResources(), errors: failures(in.GetResourceErrors()),
	}
	for _, n := range in.GetRemovedResourceNames() {
		r.removed = append(r.removed, n.GetName())
	}
	seen := make(map[string]bool, len(in.GetResources()))
	r.resources = make([]Resource, 0, len(in.GetResources()))
	for i, w := range in.GetResources() {
		res := Resource{Name: w.GetName(), Version: w.GetVersion()}
		if res.Name == "" {
			res.Name = w.GetResourceName().GetName()
		}
		if w.GetResource() == nil {
			r.bodiless = append(r.bodiless, res.Name)
			continue
		}
		res, ok := r.resource(i, res, w.GetResource())
		if !ok {
			continue
		}
		if seen[res.Name] { // Envoy refuses all of a delta response for it
			d := duplicate(r.typeURL, res.Name)
			r.refuse(fmt.Sprintf("resources[%d].name", i), fmt.Sprintf("%q: %s", res.Name, d.Reason), d.Hint)
			continue
		}
		seen[res.Name] = true
		r.resources = append(r.resources, res)
	}
	for _, name := range r.removed {
		if seen[name] {
			r.refuse("removed_resources", fmt.Sprintf("%q is both sent and removed", name), "send it, or remove it")
		}
	}
	return r, true
}

func (deltaDialect) first(t *topic, versions map[string]string) proto.Message {
	return &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl:                 t.kind.TypeURL(),
		ResourceNamesSubscribe:  t.names,
		InitialResourceVersions: versions,
	}
}

func (deltaDialect) change(t *topic, added, gone []string) proto.Message {
	return &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl:                  t.kind.TypeURL(),
		ResourceNamesSubscribe:   added,
		ResourceNamesUnsubscribe: gone,
	}
}

func (deltaDialect) answer(t *topic, nonce string, nack *status.Status) proto.Message {
	return &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl:       t.kind.TypeURL(),
		ResponseNonce: nonce,
		ErrorDetail:   nack,
	}
}
