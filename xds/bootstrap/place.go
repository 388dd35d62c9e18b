package bootstrap

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Place finds fields in a YAML document by their paths.
type Place struct {
	file string
	root *yaml.Node // nil: the document cannot be read
}

// PlaceOf returns the places in the first document of data.
func PlaceOf(file string, data []byte) Place {
	var root yaml.Node
	if yaml.NewDecoder(bytes.NewReader(data)).Decode(&root) != nil || len(root.Content) == 0 {
		return Place{file: file}
	}
	return Place{file, root.Content[0]}
}

// At returns the file:line of the field at path, such as
// filter_chains[0].filters[1].name, or of the deepest on the way to it that the
// document has.
func (p Place) At(path string) string {
	if p.root == nil {
		return p.file
	}
	n, line := follow(p.root), p.root.Line
	for _, s := range steps(path) {
		next, at := s.below(n)
		if next == nil {
			break
		}
		n, line = follow(next), at
	}
	return fmt.Sprintf("%s:%d", p.file, line)
}

// step is one name, index or key of a path.
type step struct {
	name  string
	index int // of a list; -1: name counts
	exact bool
}

// steps takes a path apart: a.b[3].c["x.y"].
func steps(path string) (out []step) {
	for path != "" {
		if path[0] == '.' {
			path = path[1:]
			continue
		}
		if path[0] != '[' {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			out = append(out, step{name: path[:end], index: -1})
			path = path[end:]
			continue
		}
		if q, err := strconv.QuotedPrefix(path[1:]); err == nil {
			key, _ := strconv.Unquote(q) // QuotedPrefix has checked it
			out = append(out, step{name: key, index: -1, exact: true})
			path = strings.TrimPrefix(path[1+len(q):], "]")
			continue
		}
		inner, rest, _ := strings.Cut(path[1:], "]")
		i, err := strconv.Atoi(inner)
		if err != nil {
			return out
		}
		out = append(out, step{index: i})
		path = rest
	}
	return out
}

// below returns what s names in n, or nil, and the line where it begins. The
// fields of a message inside a TypedStruct stand in its value.
func (s step) below(n *yaml.Node) (*yaml.Node, int) {
	switch {
	case s.index >= 0:
		if n.Kind == yaml.SequenceNode && s.index < len(n.Content) {
			return n.Content[s.index], n.Content[s.index].Line
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := n.Content[i]; k.Value == s.name || !s.exact && plainName(k.Value) == plainName(s.name) {
				return n.Content[i+1], k.Line
			}
		}
		if t := child(n, "@type"); t != nil && strings.HasSuffix(t.Value, ".TypedStruct") && !s.exact {
			if v := child(n, "value"); v != nil {
				return s.below(v)
			}
		}
	}
	return nil, 0
}

// plainName makes route_config and routeConfig the same.
func plainName(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// child returns the value of a key of the mapping n, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return follow(n.Content[i+1])
		}
	}
	return nil
}
