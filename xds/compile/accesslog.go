package compile

import (
	"maps"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/quadnine/quadnine/snapshot"
)

// accessLog compiles a file access log.
func (r *review) accessLog(m *accesslogv3.AccessLog, p *at) *snapshot.AccessLog {
	x, ok := r.open(m.GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return nil
	}
	if x.name != "envoy.extensions.access_loggers.file.v3.FileAccessLog" {
		r.refuse(p, nameOf(m.GetName(), x), "use envoy.access_loggers.file; /dev/stdout is a file too")
		return nil
	}
	p = p.f("typed_config")
	file := new(filev3.FileAccessLog)
	if !r.into(x, file, p) {
		return nil
	}
	out := &snapshot.AccessLog{Path: file.GetPath()}
	if f := m.GetFilter().GetResponseFlagFilter(); f != nil {
		out.Flags, out.AnyFlag = f.GetFlags(), len(f.GetFlags()) == 0
	}
	switch by := file.GetAccessLogFormat().(type) {
	case *filev3.FileAccessLog_Format:
		out.Format = r.format(by.Format, p.f("format"))
	case *filev3.FileAccessLog_JsonFormat:
		out.JSON = r.json(by.JsonFormat, p.f("json_format"))
	case *filev3.FileAccessLog_TypedJsonFormat:
		out.JSON = r.json(by.TypedJsonFormat, p.f("typed_json_format"))
	case *filev3.FileAccessLog_LogFormat:
		at := p.f("log_format")
		switch f := by.LogFormat.GetFormat().(type) {
		case *corev3.SubstitutionFormatString_TextFormat:
			out.Format = r.format(f.TextFormat, at.f("text_format"))
		case *corev3.SubstitutionFormatString_TextFormatSource:
			out.Format = r.format(string(source(f.TextFormatSource)), at.f("text_format_source"))
		case *corev3.SubstitutionFormatString_JsonFormat:
			out.JSON = r.json(f.JsonFormat, at.f("json_format"))
		}
	default:
		out.Format = r.format(snapshot.DefaultAccessLogFormat, p)
	}
	return out
}

// json compiles the fields of a JSON log in the order of their names.
func (r *review) json(s *structpb.Struct, p *at) []snapshot.JSONField {
	out := []snapshot.JSONField{}
	for _, name := range slices.Sorted(maps.Keys(s.GetFields())) {
		v, ok := s.GetFields()[name].GetKind().(*structpb.Value_StringValue)
		if !ok {
			r.refuse(p.k("fields", name), "a value that is no string", "write each field as a string with operators")
			continue
		}
		out = append(out, snapshot.JSONField{Name: name, Value: r.format(v.StringValue, p.k("fields", name))})
	}
	return out
}
