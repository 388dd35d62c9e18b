package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Resource is one resource that a file of resources holds.
type Resource struct {
	Message proto.Message
	place   Place
}

// At returns the file:line of the field at path, or of the deepest on the way
// to it that the file has. "" is the resource itself.
func (r *Resource) At(path string) string { return r.place.At(path) }

// Resources reads a file of resources: YAML, of which each document is one
// resource with an "@type", a list of them, or a mapping with such a list under
// "resources" (a DiscoveryResponse). JSON is YAML too. Other than in a
// bootstrap, what is not known is an error. The error joins all that is wrong,
// each with its line.
func Resources(name string, data []byte) ([]*Resource, error) {
	var (
		out  []*Resource
		errs []error
		in   = yaml.NewDecoder(bytes.NewReader(data))
	)
	for {
		var root yaml.Node
		err := in.Decode(&root)
		if errors.Is(err, io.EOF) {
			return out, errors.Join(errs...)
		}
		if err != nil {
			return out, errors.Join(append(errs, yamlError(name, err))...)
		}
		nodes, err := listed(name, root.Content[0])
		if err != nil {
			errs = append(errs, err)
		}
		for _, n := range nodes {
			m, err := resource(name, n)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, &Resource{Message: m, place: Place{name, n}})
		}
	}
}

func yamlError(name string, err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s", name, m[1], err.Error()[len(m[0]):])
	}
	return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
}

// envelope are the fields of a DiscoveryResponse beside its resources.
var envelope = []string{"resources", "versioninfo", "typeurl", "nonce", "canary", "controlplane"}

// listed returns the resources of a document.
func listed(name string, n *yaml.Node) ([]*yaml.Node, error) {
	n = follow(n)
	switch {
	case n.Kind == yaml.SequenceNode:
		return n.Content, nil
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil, nil
	case n.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("%s:%d: is neither a resource nor a list of resources", name, n.Line)
	}
	if child(n, "@type") != nil {
		return []*yaml.Node{n}, nil
	}
	list := child(n, "resources")
	if list == nil {
		return nil, fmt.Errorf("%s:%d: has neither \"@type\" nor \"resources\": write \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, or the like, and the resource's fields", name, n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(envelope, plainName(k.Value)) {
			return nil, fmt.Errorf("%s:%d: %s stands beside \"resources\": it belongs into one of them", name, k.Line, k.Value)
		}
	}
	if list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s:%d: resources is not a list", name, list.Line)
	}
	return list.Content, nil
}

// resource converts one resource.
func resource(name string, n *yaml.Node) (proto.Message, error) {
	n = follow(n)
	where := fmt.Sprintf("%s:%d", name, n.Line)
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: is no resource: want \"@type\" and the fields of that message", where)
	}
	t := child(n, "@type")
	if t == nil {
		return nil, fmt.Errorf("%s: has no \"@type\"", where)
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(t.Value)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: @type %s is not known here", name, t.Line, t.Value)
	}
	body := without(n, "@type")
	d := document{name: name}
	v := d.message(body, mt.Descriptor(), "")
	for _, w := range d.warnings {
		what, _, _ := strings.Cut(w.What, ": it is ignored")
		d.errs = append(d.errs, fmt.Errorf("%s: %s %s", w.Where, w.Path, what))
	}
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	m := mt.New().Interface()
	if err := decode(v, m); err != nil {
		line, path := blame(name, body, mt.Descriptor(), "")
		return nil, fmt.Errorf("%s:%d: %s: %s", name, line, at(path, ""), protoError(err))
	}
	return m, nil
}

func decode(v any, m proto.Message) error {
	js, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}.Unmarshal(js, m)
}

// blame finds the value that a message cannot be made of: each field is tried
// alone, down to the deepest that fails by itself.
func blame(name string, n *yaml.Node, md protoreflect.MessageDescriptor, path string) (line int, where string) {
	n = follow(n)
	if md.FullName() == "google.protobuf.Any" {
		t := child(n, "@type")
		if t == nil {
			return n.Line, path
		}
		mt, err := protoregistry.GlobalTypes.FindMessageByURL(t.Value)
		if err != nil || wrapped(mt.Descriptor()) {
			return n.Line, path
		}
		return blame(name, without(n, "@type"), mt.Descriptor(), path)
	}
	if n.Kind != yaml.MappingNode || strings.HasPrefix(string(md.FullName()), "google.protobuf.") {
		return n.Line, path
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], follow(n.Content[i+1])
		fd := field(md, key.Value)
		if fd == nil || good(name, fd, v) {
			continue
		}
		p := at(path, key.Value)
		switch {
		case fd.IsMap() && v.Kind == yaml.MappingNode && fd.MapValue().Message() != nil:
			for j := 0; j+1 < len(v.Content); j += 2 {
				if !makes(name, fd.MapValue().Message(), v.Content[j+1]) {
					return blame(name, v.Content[j+1], fd.MapValue().Message(), p+"["+v.Content[j].Value+"]")
				}
			}
		case fd.IsList() && v.Kind == yaml.SequenceNode && fd.Message() != nil:
			for j, e := range v.Content {
				if !makes(name, fd.Message(), e) {
					return blame(name, e, fd.Message(), fmt.Sprintf("%s[%d]", p, j))
				}
			}
		case fd.Message() != nil && !fd.IsMap() && !fd.IsList():
			return blame(name, v, fd.Message(), p)
		}
		return key.Line, p
	}
	return n.Line, path
}

// good reports whether fd alone can be made of v.
func good(name string, fd protoreflect.FieldDescriptor, v *yaml.Node) bool {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(fd.ContainingMessage().FullName())
	if err != nil {
		return true
	}
	d := document{name: name}
	w := d.value(v, fd, "")
	return w == (drop{}) || decode(map[string]any{fd.JSONName(): w}, mt.New().Interface()) == nil
}

// makes reports whether a message of md can be made of v.
func makes(name string, md protoreflect.MessageDescriptor, v *yaml.Node) bool {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		return true
	}
	d := document{name: name}
	w := d.message(v, md, "")
	return w == (drop{}) || decode(w, mt.New().Interface()) == nil
}

// without returns the mapping n without a key.
func without(n *yaml.Node, key string) *yaml.Node {
	body := *n
	body.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != key {
			body.Content = append(body.Content, n.Content[i], n.Content[i+1])
		}
	}
	return &body
}
