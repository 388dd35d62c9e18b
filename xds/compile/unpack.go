package compile

import (
	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// extension is the configuration of an extension point: a message by its name,
// in protobuf or, inside a TypedStruct, in JSON.
type extension struct {
	name  string // of the message
	bytes []byte
	json  *structpb.Struct
}

// open finds out what a holds. Nil holds a message without a name.
func (r *review) open(a *anypb.Any, p *at) (extension, bool) {
	x := extension{name: typeName(a.GetTypeUrl()), bytes: a.GetValue()}
	switch x.name {
	case "xds.type.v3.TypedStruct":
		t := new(xdsv3.TypedStruct)
		if !r.unmarshal(x.bytes, t, p) {
			return x, false
		}
		return extension{name: typeName(t.GetTypeUrl()), json: t.GetValue()}, true
	case "udpa.type.v1.TypedStruct":
		t := new(udpav1.TypedStruct)
		if !r.unmarshal(x.bytes, t, p) {
			return x, false
		}
		return extension{name: typeName(t.GetTypeUrl()), json: t.GetValue()}, true
	}
	return x, true
}

// into decodes x and holds it to the table and its rules.
func (r *review) into(x extension, m proto.Message, p *at) bool {
	return r.decode(x, m, p) && r.check(m, p)
}

// decode reads x, from JSON without leaving out what is not known.
func (r *review) decode(x extension, m proto.Message, p *at) bool {
	if x.json == nil {
		return r.unmarshal(x.bytes, m, p)
	}
	text, err := protojson.Marshal(x.json)
	if err == nil {
		err = protojson.Unmarshal(text, m)
	}
	if err != nil {
		r.fail(p, "", "is no %s: %v", x.name, err)
	}
	return err == nil
}

func (r *review) unmarshal(wire []byte, m proto.Message, p *at) bool {
	if err := proto.Unmarshal(wire, m); err != nil {
		r.fail(p, "", "does not decode as %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
		return false
	}
	return true
}
