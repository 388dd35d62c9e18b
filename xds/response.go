package xds

import (
	"errors"
	"fmt"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Variants of the protocol.
const (
	VariantDelta = "delta" // incremental: a response is what changed
	VariantSotw  = "sotw"  // state of the world: a response is all there is
)

// dialect is one variant of the protocol: what its messages say, and how to say
// something with them.
type dialect interface {
	name() string
	// decode reads a response; ok is false for a message of another variant.
	decode(m proto.Message) (r *response, ok bool)
	// first opens the subscription of a topic on a stream.
	first(t *topic, versions map[string]string) proto.Message
	// change tells of names that came and went.
	change(t *topic, added, gone []string) proto.Message
	// answer is the ACK of the response with the given nonce, or its NACK with a
	// reason.
	answer(t *topic, nonce string, nack *status.Status) proto.Message
	// lasting reports whether a NACK still means something when a newer response
	// was answered.
	lasting() bool
}

// response is a decoded response of either variant.
type response struct {
	typeURL   string
	version   string
	nonce     string
	resources []Resource // one a name
	removed   []string
	errors    []ResourceError
	bodiless  []string   // names whose resource has no body: a heartbeat (xDS TTL)
	rejected  []Rejected // single resources that were left out
	refusal   *Rejected  // the whole response cannot be used
}

// refuse makes the response one that cannot be used as a whole. The first reason
// stays.
func (r *response) refuse(path, reason, hint string) {
	if r.refusal == nil {
		r.refusal = &Rejected{Path: path, Reason: reason, Hint: hint}
	}
}

const wrapperURL = "type.googleapis.com/envoy.service.discovery.v3.Resource"

// resource reads what the i-th Any of the response holds. A type that is not the
// response's refuses all of it: it cannot be told which resource is missing, and
// in SotW a resource that is missing is gone.
func (r *response) resource(i int, res Resource, packed *anypb.Any) (Resource, bool) {
	if packed.GetTypeUrl() != r.typeURL {
		r.refuse(fmt.Sprintf("resources[%d].type_url", i), fmt.Sprintf("the response is of type %s, the resource of %q", r.typeURL, packed.GetTypeUrl()), "send each type in a response of its own")
		return res, false
	}
	name, err := nameOf(packed.GetValue())
	if err != nil {
		r.refuse(fmt.Sprintf("resources[%d]", i), err.Error(), "")
		return res, false
	}
	if res.Name == "" {
		res.Name = name
	}
	res.Body = packed.GetValue()
	return res, true
}

// nameOf reads field 1 of a message, which is the name in every kind, without
// reading the rest.
func nameOf(body []byte) (name string, err error) {
	for rest := body; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return "", fmt.Errorf("not a protobuf message: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
		if num == 1 && typ == protowire.BytesType {
			s, n := protowire.ConsumeString(rest)
			if n < 0 {
				return "", fmt.Errorf("not a protobuf message: %w", protowire.ParseError(n))
			}
			name, rest = s, rest[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(num, typ, rest)
		if n < 0 {
			return "", fmt.Errorf("not a protobuf message: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	if !utf8.ValidString(name) {
		return "", errors.New("its name is not UTF-8")
	}
	return name, nil
}

// failures reads resource_errors.
func failures(list []*discoveryv3.ResourceError) []ResourceError {
	all := make([]ResourceError, 0, len(list))
	for _, e := range list {
		detail := e.GetErrorDetail()
		all = append(all, ResourceError{Name: e.GetResourceName().GetName(), Code: codes.Code(detail.GetCode()), Message: detail.GetMessage()})
	}
	return all
}
