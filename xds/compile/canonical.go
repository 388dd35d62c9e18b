package compile

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// canonical returns m's bytes with every map sorted, inside of every Any too:
// two messages that say the same have the same. It may change how m's Anys are
// written, and nothing else of m. Nil: m cannot be written.
func canonical(m proto.Message) []byte {
	settle(m.ProtoReflect(), 0)
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil
	}
	return append([]byte{}, out...) // never nil
}

// maxDepth bounds Anys within Anys.
const maxDepth = 16

// settle rewrites the Anys below m deterministically.
func settle(m protoreflect.Message, depth int) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		if depth == maxDepth {
			return
		}
		mt, err := protoregistry.GlobalTypes.FindMessageByURL(a.GetTypeUrl())
		if err != nil {
			return
		}
		inner := mt.New().Interface()
		if proto.Unmarshal(a.GetValue(), inner) != nil {
			return
		}
		settle(inner.ProtoReflect(), depth+1)
		if out, err := (proto.MarshalOptions{Deterministic: true}).Marshal(inner); err == nil {
			a.Value = out
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					settle(v.Message(), depth)
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			l := v.List()
			for i := range l.Len() {
				settle(l.Get(i).Message(), depth)
			}
		default:
			settle(v.Message(), depth)
		}
		return true
	})
}
