package compile

import (
	"encoding/json"
	"strconv"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/quadnine/quadnine/snapshot"
)

// maxRuntimeDepth bounds how deep keys nest.
const maxRuntimeDepth = 32

func (r *review) runtime(m *runtimev3.Runtime) snapshot.RuntimeLayer {
	out := snapshot.RuntimeLayer{Name: m.GetName(), Values: make(map[string]string)}
	r.flatten(out.Values, "", m.GetLayer(), 0)
	return out
}

// flatten writes the values of s under their full keys, joined by dots.
func (r *review) flatten(to map[string]string, prefix string, s *structpb.Struct, depth int) {
	for name, v := range s.GetFields() {
		key := prefix + name
		switch v := v.GetKind().(type) {
		case *structpb.Value_NumberValue:
			to[key] = strconv.FormatFloat(v.NumberValue, 'f', -1, 64)
		case *structpb.Value_BoolValue:
			to[key] = strconv.FormatBool(v.BoolValue)
		case *structpb.Value_StringValue:
			to[key] = v.StringValue
		case *structpb.Value_StructValue:
			if share(v.StructValue) {
				text, err := json.Marshal(v.StructValue.AsMap())
				if err != nil {
					r.fail((*at)(nil).k("layer", key), "", "%v", err)
					return
				}
				to[key] = string(text)
				continue
			}
			if depth == maxRuntimeDepth {
				r.fail((*at)(nil).k("layer", key), "", "nests deeper than %d", maxRuntimeDepth)
				return
			}
			r.flatten(to, key+".", v.StructValue, depth+1)
		default:
			r.fail((*at)(nil).k("layer", key), "use a number, a string or true and false", "Invalid runtime entry value for %s", key)
		}
	}
}

// share reports whether s is one value, an envoy.type.v3.FractionalPercent, and
// not keys below a key.
func share(s *structpb.Struct) bool {
	return s.GetFields()["numerator"] != nil || s.GetFields()["denominator"] != nil
}
