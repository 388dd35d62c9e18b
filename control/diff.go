package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quadnine/quadnine/xds/compile"
)

// Difference is a resource that two groups do not have alike.
type Difference struct {
	API    string        `json:"api"`
	Name   string        `json:"name"`
	Change string        `json:"change"` // added, removed, changed
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is a field that is not the same. What is not set is "".
type FieldChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Diff returns what is different between two groups, by kind and name. Elements
// of lists are matched by their names where all have one.
func Diff(before, after *Group) (out []Difference) {
	for _, k := range Kinds() {
		names := make(map[string]bool)
		for _, g := range []*Group{before, after} {
			for name := range g.byKind[k] {
				names[name] = true
			}
		}
		for _, name := range sortedKeys(names) {
			a, b := before.Get(k, name), after.Get(k, name)
			d := Difference{API: k.String(), Name: name}
			switch {
			case a == nil:
				d.Change = "added"
			case b == nil:
				d.Change = "removed"
			default:
				d.Change = "changed"
				c := comparison{}
				c.resources(a, b)
				if d.Fields = c.out; len(d.Fields) == 0 {
					continue
				}
			}
			out = append(out, d)
		}
	}
	return out
}

type comparison struct{ out []FieldChange }

func (c *comparison) add(path, before, after string) {
	c.out = append(c.out, FieldChange{path, before, after})
}

// resources compares without keys, which nobody is shown: a dump has none.
func (c *comparison) resources(a, b *Resource) {
	x, y := proto.Clone(a.Message), proto.Clone(b.Message)
	compile.Redact(x.ProtoReflect())
	compile.Redact(y.ProtoReflect())
	c.messages(x.ProtoReflect(), y.ProtoReflect(), "")
	if len(c.out) == 0 && proto.Equal(x, y) && !proto.Equal(a.Message, b.Message) && !proto.Equal(x, a.Message) && !proto.Equal(y, b.Message) {
		c.add("(a key)", compile.Redacted, compile.Redacted)
	}
}

func (c *comparison) messages(a, b protoreflect.Message, path string) {
	if proto.Equal(a.Interface(), b.Interface()) {
		return
	}
	if x, ok := a.Interface().(*anypb.Any); ok {
		y, _ := b.Interface().(*anypb.Any) // of the same type
		c.anys(x, y, path)
		return
	}
	if a.Descriptor() != b.Descriptor() || strings.HasPrefix(string(a.Descriptor().FullName()), "google.protobuf.") {
		c.add(path, shownMessage(a), shownMessage(b))
		return
	}
	var fields []protoreflect.FieldDescriptor
	for i := range a.Descriptor().Fields().Len() {
		if fd := a.Descriptor().Fields().Get(i); a.Has(fd) || b.Has(fd) {
			fields = append(fields, fd)
		}
	}
	slices.SortFunc(fields, func(x, y protoreflect.FieldDescriptor) int { return cmp.Compare(x.Number(), y.Number()) })
	for _, fd := range fields {
		c.field(fd, a, b, join(path, string(fd.Name())))
	}
}

// anys compares what two Anys hold.
func (c *comparison) anys(a, b *anypb.Any, path string) {
	x, errX := a.UnmarshalNew()
	y, errY := b.UnmarshalNew()
	switch {
	case a.GetTypeUrl() != b.GetTypeUrl():
		c.add(join(path, "@type"), a.GetTypeUrl(), b.GetTypeUrl())
	case errX != nil || errY != nil:
		c.add(path, fmt.Sprintf("%d bytes", len(a.GetValue())), fmt.Sprintf("%d other bytes", len(b.GetValue())))
	default:
		c.messages(x.ProtoReflect(), y.ProtoReflect(), path)
	}
}

func (c *comparison) field(fd protoreflect.FieldDescriptor, a, b protoreflect.Message, path string) {
	va, vb := a.Get(fd), b.Get(fd)
	switch {
	case fd.IsMap():
		c.maps(fd, va.Map(), vb.Map(), path)
	case fd.IsList():
		c.lists(fd, va.List(), vb.List(), path)
	case fd.Message() != nil && a.Has(fd) && b.Has(fd):
		c.messages(va.Message(), vb.Message(), path)
	case a.Has(fd) != b.Has(fd) || !va.Equal(vb):
		c.add(path, shownField(fd, a), shownField(fd, b))
	}
}

func (c *comparison) maps(fd protoreflect.FieldDescriptor, a, b protoreflect.Map, path string) {
	keys := make(map[string]protoreflect.MapKey)
	for _, m := range []protoreflect.Map{a, b} {
		m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys[k.String()] = k
			return true
		})
	}
	for _, key := range sortedKeys(keys) {
		c.values(fd.MapValue(), a.Get(keys[key]), b.Get(keys[key]), path+"["+strconv.Quote(key)+"]")
	}
}

// lists compares element by element: by name when all elements have one of their
// own, else by their place.
func (c *comparison) lists(fd protoreflect.FieldDescriptor, a, b protoreflect.List, path string) {
	na, okA := names(fd, a)
	nb, okB := names(fd, b)
	if !okA || !okB {
		for i := range max(a.Len(), b.Len()) {
			var x, y protoreflect.Value
			if i < a.Len() {
				x = a.Get(i)
			}
			if i < b.Len() {
				y = b.Get(i)
			}
			c.values(fd, x, y, path+"["+strconv.Itoa(i)+"]")
		}
		return
	}
	var stayA, stayB []string
	for i, name := range na {
		if j := slices.Index(nb, name); j >= 0 {
			c.values(fd, a.Get(i), b.Get(j), path+"["+strconv.Quote(name)+"]")
			stayA = append(stayA, name)
		} else {
			c.values(fd, a.Get(i), protoreflect.Value{}, path+"["+strconv.Quote(name)+"]")
		}
	}
	for j, name := range nb {
		if slices.Contains(na, name) {
			stayB = append(stayB, name)
		} else {
			c.values(fd, protoreflect.Value{}, b.Get(j), path+"["+strconv.Quote(name)+"]")
		}
	}
	if !slices.Equal(stayA, stayB) {
		c.add(path+" (order)", strings.Join(stayA, ", "), strings.Join(stayB, ", "))
	}
}

// names returns the names of a list's elements, and whether each has one of its
// own.
func names(fd protoreflect.FieldDescriptor, l protoreflect.List) ([]string, bool) {
	if fd.Message() == nil {
		return nil, false
	}
	by := fd.Message().Fields().ByName("name")
	if by == nil || by.Kind() != protoreflect.StringKind || by.IsList() {
		return nil, false
	}
	out, seen := make([]string, l.Len()), make(map[string]bool)
	for i := range out {
		name := l.Get(i).Message().Get(by).String()
		if name == "" || seen[name] {
			return nil, false
		}
		out[i], seen[name] = name, true
	}
	return out, true
}

// values compares two elements, of which one may be missing.
func (c *comparison) values(fd protoreflect.FieldDescriptor, a, b protoreflect.Value, path string) {
	switch {
	case a.IsValid() && b.IsValid() && fd.Message() != nil:
		c.messages(a.Message(), b.Message(), path)
	case a.IsValid() != b.IsValid() || !a.Equal(b):
		c.add(path, shownValue(fd, a), shownValue(fd, b))
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func shownField(fd protoreflect.FieldDescriptor, m protoreflect.Message) string {
	if !m.Has(fd) {
		return ""
	}
	return shownValue(fd, m.Get(fd))
}

// shownValue is a value as a person is shown it: JSON, without its quotes.
func shownValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case !v.IsValid():
		return ""
	case fd.Message() != nil:
		return shownMessage(v.Message())
	case fd.Enum() != nil:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
	case fd.Kind() == protoreflect.BytesKind:
		return strconv.Quote(string(v.Bytes()))
	case fd.Kind() == protoreflect.StringKind && v.String() == "":
		return `""`
	}
	return v.String()
}

func shownMessage(m protoreflect.Message) string {
	out, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	// protojson varies its spaces so that nobody relies on them.
	var b strings.Builder
	quoted := false
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '\\' && quoted:
			b.WriteByte(out[i])
			i++
		case out[i] == '"':
			quoted = !quoted
		case out[i] == ' ' && !quoted:
			continue
		}
		b.WriteByte(out[i])
	}
	return strings.Trim(b.String(), `"`)
}
