package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Models is "models" of quadnine.yaml: what flags of `quadnine run` say of models,
// in the file's order. What is there is set, 0 and false too.
type Models []ModelSetting

// ModelSetting is one key that is there.
type ModelSetting struct {
	Flag   string   // without its dashes
	Key    string   // "models.share.clients"
	Line   int      // in the file
	Values []string // as the flag takes them; several for one that may be repeated
}

// modelKey is a key below "models".
type modelKey struct {
	flag string
	form modelForm
	keys map[string]modelKey // of a mapping
}

// modelForm is how a key's value is written.
type modelForm uint8

const (
	modelText     modelForm = iota // text, a number, true or false: the flag says what it takes
	modelDuration                  // as elsewhere in the file
	modelTexts                     // a list of them
	modelPairs                     // a mapping, each of it KEY=VALUE to the flag
)

// modelKeys are the keys, by their names.
var modelKeys = map[string]modelKey{
	"dir":         {flag: "models"},
	"store":       {flag: "model-store"},
	"ingest":      {flag: "model-ingest"},
	"keys":        {flag: "model-key", form: modelTexts},
	"trust":       {flag: "model-trust", form: modelTexts},
	"quotas":      {flag: "model-quota", form: modelTexts},
	"copyLimit":   {flag: "model-copy-limit"},
	"mlock":       {flag: "model-mlock"},
	"reclaim":     {flag: "model-reclaim", form: modelDuration},
	"patchMemory": {flag: "model-patch-memory"},
	"patchTime":   {flag: "model-patch-time", form: modelDuration},
	"judge":       {flag: "model-judge", form: modelPairs},
	"pool": {keys: map[string]modelKey{
		"server": {flag: "model-pool"}, "ca": {flag: "model-pool-ca"}, "cert": {flag: "model-pool-cert"}, "key": {flag: "model-pool-key"},
	}},
	"bucket": {keys: map[string]modelKey{
		"url": {flag: "model-bucket"}, "poll": {flag: "model-bucket-poll", form: modelDuration}, "tierAfter": {flag: "model-tier-after", form: modelDuration},
	}},
	"share": {keys: map[string]modelKey{
		"socket": {flag: "model-share"}, "clients": {flag: "model-share-clients"},
		"ready": {flag: "model-share-ready", form: modelDuration}, "sealed": {flag: "model-share-sealed"},
	}},
}

// ModelFlags returns the flags that quadnine.yaml can set, sorted.
func ModelFlags() []string { return slices.Sorted(flagsOf(modelKeys)) }

func flagsOf(keys map[string]modelKey) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, k := range keys {
			if k.keys == nil {
				if !yield(k.flag) {
					return
				}
				continue
			}
			for flag := range flagsOf(k.keys) {
				if !yield(flag) {
					return
				}
			}
		}
	}
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (m *Models) UnmarshalYAML(n *yaml.Node) error {
	r := modelReader{out: (*m)[:0]}
	r.mapping(n, "models", modelKeys)
	*m = r.out
	if len(r.errs) > 0 {
		return &yaml.TypeError{Errors: r.errs}
	}
	return nil
}

type modelReader struct {
	out  Models
	errs []string
}

func (r *modelReader) bad(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Sprintf("line %d: ", n.Line)+fmt.Sprintf(format, args...))
}

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// members yields a mapping's keys and values, or says that it is none.
func (r *modelReader) members(n *yaml.Node, path string, each func(key, value *yaml.Node)) {
	n = resolved(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // it sets nothing
	}
	if n.Kind != yaml.MappingNode {
		r.bad(n, "wrong type: %s wants a mapping", path)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if line, twice := seen[key.Value]; twice {
			r.bad(key, "mapping key %q already defined at line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		each(key, resolved(n.Content[i+1]))
	}
}

func (r *modelReader) mapping(n *yaml.Node, path string, keys map[string]modelKey) {
	r.members(n, path, func(key, value *yaml.Node) {
		k, ok := keys[key.Value]
		if !ok {
			r.bad(key, "unknown field %q; known here: %s", key.Value, strings.Join(sortedKeys(keys), ", "))
			return
		}
		at := path + "." + key.Value
		if k.keys != nil {
			r.mapping(value, at, k.keys)
			return
		}
		s := ModelSetting{Flag: k.flag, Key: at, Line: key.Line}
		switch k.form {
		case modelTexts:
			if value.Kind != yaml.SequenceNode {
				r.bad(value, "wrong type: %s wants a list", at)
				return
			}
			for _, item := range value.Content {
				s.Values = r.scalar(s.Values, resolved(item), at, "")
			}
		case modelPairs:
			r.members(value, at, func(key, value *yaml.Node) {
				s.Values = r.scalar(s.Values, value, at+"."+key.Value, key.Value+"=")
			})
		case modelDuration:
			var d Duration
			if err := d.UnmarshalYAML(value); err != nil {
				r.bad(value, "%q is no duration: write seconds with an s, like 30s or 0.5s", value.Value)
				return
			}
			s.Values = r.scalar(s.Values, value, at, "")
		default:
			s.Values = r.scalar(s.Values, value, at, "")
		}
		if len(s.Values) > 0 {
			r.out = append(r.out, s)
		}
	})
}

func sortedKeys(keys map[string]modelKey) []string {
	out := make([]string, 0, len(keys))
	for name := range keys {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// scalar adds a value, with what stands before it. null sets nothing.
func (r *modelReader) scalar(values []string, n *yaml.Node, path, before string) []string {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.bad(n, "wrong type: %s wants text or a number", path)
	case n.Tag == "!!null":
	default:
		return append(values, before+n.Value)
	}
	return values
}
