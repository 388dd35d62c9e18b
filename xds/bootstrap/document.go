package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// document turns YAML (JSON is YAML too) into the JSON of a message, leaving out
// what the message does not have and what quadnine has no use for.
type document struct {
	name     string
	warnings []Warning
	errs     []error
}

func (d *document) warn(n *yaml.Node, path, format string, args ...any) {
	d.warnings = append(d.warnings, Warning{fmt.Sprintf("%s:%d", d.name, n.Line), path, fmt.Sprintf(format, args...)})
}

func (d *document) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %s %s", d.name, n.Line, path, fmt.Sprintf(format, args...)))
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// toJSON returns data as JSON of a message md.
func (d *document) toJSON(data []byte, md protoreflect.MessageDescriptor) ([]byte, error) {
	var root yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&root)
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: is empty", d.name)
	case err != nil:
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			return nil, fmt.Errorf("%s:%s: %s", d.name, m[1], err.Error()[len(m[0]):])
		}
		return nil, fmt.Errorf("%s: %s", d.name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	v := d.message(root.Content[0], md, "")
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return json.Marshal(v)
}

// follow resolves an alias.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// drop is what takes the place of a value that is left out.
type drop struct{}

// message converts a mapping to a message of md.
func (d *document) message(n *yaml.Node, md protoreflect.MessageDescriptor, path string) any {
	n = follow(n)
	switch md.FullName() {
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue":
		return d.plain(n, path)
	case "google.protobuf.Any":
		return d.any(n, path)
	}
	if strings.HasPrefix(string(md.FullName()), "google.protobuf.") && n.Kind == yaml.ScalarNode {
		return d.plain(n, path)
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, at(path, ""), "is not a mapping: want the fields of %s", md.FullName())
		return nil
	}
	out := make(map[string]any)
	for k, v := range d.pairs(n, path) {
		fd := field(md, k)
		p := at(path, k)
		switch {
		case fd == nil:
			d.warn(keyOf(n, k, v), p, "is no field of %s: it is ignored", md.FullName())
			continue
		case unused[string(fd.FullName())] != "":
			d.warn(keyOf(n, k, v), p, "has no effect: %s", unused[string(fd.FullName())])
			continue
		}
		if w := d.value(v, fd, p); w != (drop{}) {
			out[fd.JSONName()] = w
		}
	}
	return out
}

// pairs returns a mapping's entries, with those merged by "<<" below its own.
func (d *document) pairs(n *yaml.Node, path string) map[string]*yaml.Node {
	out := make(map[string]*yaml.Node)
	own := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!!merge" {
			if from := follow(v); from.Kind == yaml.MappingNode {
				for name, w := range d.pairs(from, path) {
					if !own[name] {
						out[name] = w
					}
				}
			} else {
				d.fail(v, at(path, "<<"), "does not merge a mapping")
			}
			continue
		}
		if own[k.Value] {
			d.fail(k, at(path, k.Value), "stands there twice")
		}
		own[k.Value] = true
		out[k.Value] = v
	}
	return out
}

// keyOf returns where a mapping's entry begins; v, its value, when it was merged.
func keyOf(n *yaml.Node, key string, v *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return v
}

// value converts a field's value.
func (d *document) value(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) any {
	n = follow(n)
	switch {
	case n.Tag == "!!null":
		return drop{}
	case fd.IsMap():
		if n.Kind != yaml.MappingNode {
			d.fail(n, path, "is not a mapping")
			return nil
		}
		out := make(map[string]any)
		for k, v := range d.pairs(n, path) {
			if w := d.single(v, fd.MapValue(), path+"["+k+"]"); w != (drop{}) {
				out[k] = w
			}
		}
		return out
	case fd.IsList():
		if n.Kind != yaml.SequenceNode {
			d.fail(n, path, "is not a list")
			return nil
		}
		out := make([]any, 0, len(n.Content))
		for i, v := range n.Content {
			if w := d.single(v, fd, path+"["+strconv.Itoa(i)+"]"); w != (drop{}) {
				out = append(out, w)
			}
		}
		return out
	default:
		return d.single(n, fd, path)
	}
}

func (d *document) single(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) any {
	if fd.Message() != nil {
		return d.message(n, fd.Message(), path)
	}
	n = follow(n)
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "is not a single value: want %s", fd.Kind())
		return nil
	}
	if fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind {
		return n.Value // 80 and yes are text where text is wanted
	}
	return d.plain(n, path)
}

// any converts a google.protobuf.Any. One of a type that this program does not
// know is left out.
func (d *document) any(n *yaml.Node, path string) any {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "is not a mapping: want \"@type\" and the fields of that message")
		return nil
	}
	pairs := d.pairs(n, path)
	t := pairs["@type"]
	if t == nil {
		d.fail(n, path, "has no \"@type\"")
		return nil
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(t.Value)
	if err != nil {
		d.warn(t, path, "is of type %s, which is not known here: it is ignored", t.Value)
		return drop{}
	}
	var out map[string]any
	if wrapped(mt.Descriptor()) {
		out = map[string]any{"value": d.plain(pairs["value"], path)}
	} else {
		body := *n
		body.Content = nil
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value != "@type" {
				body.Content = append(body.Content, n.Content[i], n.Content[i+1])
			}
		}
		var ok bool
		if out, ok = d.message(&body, mt.Descriptor(), path).(map[string]any); !ok {
			return nil
		}
	}
	out["@type"] = t.Value
	return out
}

// wrapped reports whether an Any of md holds its JSON under "value".
func wrapped(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Duration", "google.protobuf.Timestamp", "google.protobuf.Any":
		return true
	}
	return false
}

// plain converts what has no schema.
func (d *document) plain(n *yaml.Node, path string) any {
	if n == nil {
		return nil
	}
	n = follow(n)
	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any)
		for k, v := range d.pairs(n, path) {
			out[k] = d.plain(v, at(path, k))
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, v := range n.Content {
			out[i] = d.plain(v, path+"["+strconv.Itoa(i)+"]")
		}
		return out
	default:
		switch n.Tag {
		case "!!int", "!!float", "!!bool", "!!null":
			var v any
			if err := n.Decode(&v); err != nil {
				d.fail(n, path, "cannot be read: %v", err)
			}
			if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
				return n.Value
			}
			return v
		default:
			return n.Value
		}
	}
}

// at returns the path of a field below path.
func at(path, name string) string {
	switch {
	case path == "" && name == "":
		return "the document"
	case path == "":
		return name
	case name == "":
		return path
	default:
		return path + "." + name
	}
}

// field finds a field by its proto or its JSON name.
func field(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByName(protoreflect.Name(name)); fd != nil {
		return fd
	}
	return md.Fields().ByJSONName(name)
}

var protoNoise = regexp.MustCompile(`^proto:[ \x{a0}]*(?:syntax error )?(?:\(line \d+:\d+\): )?`)

// protoValue is a text that is no text: it may be a key that is written wrongly.
var protoValue = regexp.MustCompile(`(invalid value for (?:string|bytes) field \w+): .*`)

// protoError returns the message without the position in the JSON, which nobody
// has seen, and without what may be secret.
func protoError(err error) string {
	return protoValue.ReplaceAllString(protoNoise.ReplaceAllString(err.Error(), ""), "$1")
}
