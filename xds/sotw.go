package xds

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// sotwDialect is the variant whose responses are the state of the world. Every request
// names all that is subscribed to, and carries the newest nonce: servers drop a
// request with an older one without a word, and the subscription with it.
type sotwDialect struct{}

func (sotwDialect) name() string { return VariantSotw }

func (sotwDialect) lasting() bool { return false } // its nonce would be stale, and the newest response is all there is

func (sotwDialect) decode(m proto.Message) (*response, bool) {
	in, ok := m.(*discoveryv3.DiscoveryResponse)
	if !ok {
		return nil, false
	}
	r := &response{typeURL: in.GetTypeUrl(), version: in.GetVersionInfo(), nonce: in.GetNonce(), errors: failures(in.GetResourceErrors())}
	seen := make(map[string]bool, len(in.GetResources()))
	r.resources = make([]Resource, 0, len(in.GetResources()))
	for i, packed := range in.GetResources() {
		res := Resource{Version: r.version}
		if packed.GetTypeUrl() == wrapperURL {
			var w discoveryv3.Resource
			if err := proto.Unmarshal(packed.GetValue(), &w); err != nil {
				r.refuse(fmt.Sprintf("resources[%d]", i), "not a protobuf message: "+err.Error(), "")
				continue
			}
			res.Name = w.GetName()
			if w.GetVersion() != "" {
				res.Version = w.GetVersion()
			}
			if packed = w.GetResource(); packed == nil {
				r.bodiless = append(r.bodiless, res.Name)
				continue
			}
		}
		res, ok := r.resource(i, res, packed)
		if !ok {
			continue
		}
		if seen[res.Name] {
			r.rejected = append(r.rejected, duplicate(r.typeURL, res.Name)) // the first is kept, as Envoy does
			continue
		}
		seen[res.Name] = true
		r.resources = append(r.resources, res)
	}
	if len(r.bodiless) > 0 && len(r.resources) > 0 {
		r.refuse("", fmt.Sprintf("resource %q has no body, others have one", r.bodiless[0]), "send a heartbeat in a response of its own")
	}
	return r, true
}

func (sotwDialect) first(t *topic, _ map[string]string) proto.Message {
	return sotwDialect{}.answer(t, t.nonce, nil)
}

// change has no error_detail, even after a NACK: Istio takes no names from a
// request that has one.
func (sotwDialect) change(t *topic, _, _ []string) proto.Message {
	return sotwDialect{}.answer(t, t.nonce, nil)
}

func (sotwDialect) answer(t *topic, nonce string, nack *status.Status) proto.Message {
	return &discoveryv3.DiscoveryRequest{
		TypeUrl:       t.kind.TypeURL(),
		VersionInfo:   t.accepted,
		ResponseNonce: nonce,
		ResourceNames: t.names,
		ErrorDetail:   nack,
	}
}

func duplicate(typeURL, name string) Rejected {
	k, _ := KindOf(typeURL)
	return Rejected{Name: name, Reason: "the response has more than one " + k.Message() + " of this name", Hint: "send each name once"}
}
