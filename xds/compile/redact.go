package compile

import (
	"github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Redacted stands in the place of what Envoy's API marks as sensitive.
const Redacted = "[redacted]"

// maxNested is how deep Anys may lie in Anys: deeper than in any configuration,
// and not as deep as to cost more than a look.
const maxNested = 32

// Redact replaces private keys, tokens and the like in m and in what its Anys
// hold. It changes m. Nobody can tell what is secret in an Any that cannot be
// decoded: its type is all that is left of it.
func Redact(m protoreflect.Message) { redactIn(m, 0) }

func redactIn(m protoreflect.Message, nested int) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		var body []byte
		if inner, err := packed.UnmarshalNew(); err == nil && nested < maxNested {
			redactIn(inner.ProtoReflect(), nested+1)
			body, _ = proto.MarshalOptions{Deterministic: true}.Marshal(inner) // nil when it does not go
		}
		packed.Value = body
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		hide := sensitive(f)
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				switch {
				case f.MapValue().Message() != nil:
					conceal(v.Message(), hide, nested)
				case hide && f.MapValue().Kind() == protoreflect.StringKind:
					m.Mutable(f).Map().Set(k, protoreflect.ValueOfString(Redacted))
				}
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				if f.Message() != nil {
					conceal(v.List().Get(i).Message(), hide, nested)
				}
			}
		case f.Message() != nil:
			conceal(v.Message(), hide, nested)
		case hide && f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(Redacted))
		case hide && f.Kind() == protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte(Redacted)))
		}
		return true
	})
}

// conceal redacts m, and all the text in it when it is sensitive as a whole.
func conceal(m protoreflect.Message, whole bool, nested int) {
	if !whole {
		redactIn(m, nested)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap(), f.IsList():
			m.Clear(f)
		case f.Message() != nil:
			conceal(v.Message(), true, nested)
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(Redacted))
		case f.Kind() == protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte(Redacted)))
		}
		return true
	})
}

// sensitive reports whether the API marks a field so (udpa.annotations.sensitive).
func sensitive(f protoreflect.FieldDescriptor) bool {
	hide, _ := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return hide
}
