package compile

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// check holds m to the table of fields and to the rules in its own definition.
// It reports whether m may be compiled.
func (r *review) check(m proto.Message, p *at) bool {
	before := len(r.errs) + r.more
	r.walk(m.ProtoReflect(), p, "")
	r.rules(m, p)
	return len(r.errs)+r.more == before
}

// walk looks at every field of m that is set. Fields that the compiler opens
// itself (Any, and lists that are compiled piece by piece) are not entered.
func (r *review) walk(m protoreflect.Message, p *at, context protoreflect.FullName) {
	r.unknown(m.GetUnknown(), p)
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	if len(set) > 1 {
		slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	}
	for _, fd := range set {
		v := m.Get(fd)
		name := string(fd.Name())
		entry := lookup(fd.FullName(), context)
		switch {
		case entry.what == refused:
			if text := show(fd, v); text != entry.unless || text == "" {
				r.refuse(p.f(name), text, entry.why)
			}
			continue
		case entry.what == ignored:
			if text := show(fd, v); text != entry.unless || text == "" {
				r.ignore(p.f(name), text, entry.why)
			}
			continue
		case fd.Kind() == protoreflect.StringKind && !fd.IsList():
			// What is kept by its name has keys with a zero byte between their parts.
			if strings.HasSuffix(name, "name") && strings.ContainsRune(v.String(), 0) {
				r.fail(p.f(name), "take it out", "holds a zero byte")
			}
			continue
		case entry.opened || fd.Kind() != protoreflect.MessageKind || fd.IsMap():
			continue
		case fd.IsList():
			if leaf(fd.Message()) {
				continue
			}
			l := v.List()
			for i := range l.Len() {
				r.walk(l.Get(i).Message(), p.i(name, i), fd.FullName())
			}
		case !leaf(fd.Message()):
			r.walk(v.Message(), p.f(name), fd.FullName())
		}
	}
}

// leaf reports whether a message is a value: its fields are not looked at.
func leaf(md protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(string(md.FullName()), "google.protobuf.")
}

// unknown counts field numbers that the message does not have.
func (r *review) unknown(raw protoreflect.RawFields, p *at) {
	for len(raw) > 0 {
		num, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return
		}
		r.notes.Unknown++
		if r.strict {
			r.fail(p.f(strconv.Itoa(int(num))), "unset it, or run without --reject-unknown-dynamic-fields", "unknown field number %d", num)
		}
		raw = raw[n:]
	}
}

// show renders a field's value for people.
func show(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case fd.IsList():
		return strconv.Itoa(v.List().Len()) + " of them"
	case fd.IsMap():
		return strconv.Itoa(v.Map().Len()) + " of them"
	case fd.Enum() != nil:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case fd.Message() == nil:
		if fd.Kind() == protoreflect.StringKind {
			return strconv.Quote(clip(v.String(), 80))
		}
		if fd.Kind() == protoreflect.BytesKind {
			return strconv.Itoa(len(v.Bytes())) + " bytes"
		}
		return v.String()
	}
	m := v.Message()
	fields := m.Descriptor().Fields()
	switch m.Descriptor().FullName() {
	case "google.protobuf.Duration":
		return strconv.FormatFloat(float64(m.Get(fields.ByName("seconds")).Int())+float64(m.Get(fields.ByName("nanos")).Int())/1e9, 'f', -1, 64) + "s"
	case "google.protobuf.Any":
		return typeName(m.Get(fields.ByName("type_url")).String())
	case "google.protobuf.Struct":
		return "a struct"
	}
	if leaf(m.Descriptor()) && fields.Len() == 1 { // a wrapper
		return show(fields.Get(0), m.Get(fields.Get(0)))
	}
	// A message that is a choice among extensions goes by the name of its own.
	if name := fields.ByName("name"); name != nil && name.Kind() == protoreflect.StringKind && m.Has(name) {
		return clip(m.Get(name).String(), 80)
	}
	return "{…}"
}

// typeName is the message's name at the end of a type URL.
func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// broken is the shape of the errors of generated validation.
type broken interface {
	error
	Field() string
	Reason() string
	Cause() error
}

// rules applies the rules that are written beside a message's fields.
func (r *review) rules(m proto.Message, p *at) {
	v, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return
	}
	if err := v.ValidateAll(); err != nil {
		r.broken(err, m.ProtoReflect().Descriptor(), p)
	}
}

// broken turns generated errors, which nest and join, into ours.
func (r *review) broken(err error, md protoreflect.MessageDescriptor, p *at) {
	if joined, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range joined.AllErrors() {
			r.broken(e, md, p)
		}
		return
	}
	b, ok := errors.AsType[broken](err)
	if !ok {
		r.fail(p, "", "%v", err)
		return
	}
	name, rest, _ := strings.Cut(b.Field(), "[")
	fd, name := fieldOf(md, name)
	field := &at{up: p, field: name}
	var below protoreflect.MessageDescriptor
	if fd != nil {
		below = fd.Message()
		if fd.IsMap() {
			below = fd.MapValue().Message()
		}
	}
	if index := strings.TrimSuffix(rest, "]"); index != "" {
		if n, err := strconv.Atoi(index); err == nil {
			field.nth = n + 1
		} else {
			field.key = index
		}
	}
	if cause := b.Cause(); cause != nil {
		r.broken(cause, below, field)
		return
	}
	r.fail(field, "", "%s", b.Reason())
}

// fieldOf finds the field that generated code calls name, and its own name or
// that of the oneof that is meant.
func fieldOf(md protoreflect.MessageDescriptor, name string) (protoreflect.FieldDescriptor, string) {
	if md == nil {
		return nil, strings.ToLower(name)
	}
	same := func(other protoreflect.Name) bool {
		return strings.EqualFold(strings.ReplaceAll(string(other), "_", ""), strings.ReplaceAll(name, "_", ""))
	}
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); same(fd.Name()) {
			return fd, string(fd.Name())
		}
	}
	for i := range md.Oneofs().Len() {
		if od := md.Oneofs().Get(i); same(od.Name()) {
			return nil, string(od.Name())
		}
	}
	return nil, strings.ToLower(name)
}
