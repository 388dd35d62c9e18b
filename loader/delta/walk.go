package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxManifest = 1 << 20 // bytes
	maxDepth    = 8       // a manifest needs 4
)

// object is a JSON object with its members in the order of the text.
type object []member

type member struct {
	name  string
	value any // string, json.Number, bool, nil, []any or object
}

// parseJSON is stricter than encoding/json: no member twice, no case folding,
// nothing after the end, UTF-8 only, bounded size and depth.
func parseJSON(data []byte) (any, error) {
	if len(data) > maxManifest {
		return nil, malformed("has %d bytes, at most %d are allowed", len(data), maxManifest)
	}
	if !utf8.Valid(data) {
		return nil, malformed("is not UTF-8")
	}
	p := jsonParser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err == nil {
		if _, end := p.dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more text after the end")
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		at := p.dec.InputOffset()
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = max(at, e.Offset)
		}
		line := 1 + bytes.Count(data[:min(at, int64(len(data)))], []byte("\n"))
		return nil, malformed("line %d: is no JSON: %w", line, err)
	}
	return v, nil
}

type jsonParser struct{ dec *json.Decoder }

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return p.object(depth)
	case json.Delim('['):
		list := []any{}
		for p.dec.More() {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := p.dec.Token()
		return list, err
	default:
		return t, nil
	}
}

func (p *jsonParser) object(depth int) (any, error) {
	o := object{}
	seen := make(map[string]bool)
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder lets nothing else stand here
		if seen[name] {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, v})
	}
	_, err := p.dec.Token()
	return o, err
}

// walk turns a JSON tree into values and notes what is wrong, with the path.
type walk struct{ errs []error }

type field struct {
	name     string
	required bool
	take     func(path string, v any)
}

func (w *walk) errf(path, format string, args ...any) {
	if path == "" {
		path = "the whole"
	}
	w.errs = append(w.errs, fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...)))
}

func join(path, name string) string {
	if strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) || name == "" {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// object takes the known fields of v and refuses others.
func (w *walk) object(path string, v any, fields []field) {
	o, ok := v.(object)
	if !ok {
		w.errf(path, "got %s, want an object", describe(v))
		return
	}
	for _, m := range o {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.name })
		if i < 0 {
			names := make([]string, len(fields))
			for j, f := range fields {
				names[j] = f.name
			}
			w.errf(join(path, m.name), "unknown field; known here: %s", strings.Join(names, ", "))
			continue
		}
		fields[i].take(join(path, m.name), m.value)
	}
	for _, f := range fields {
		if f.required && !slices.ContainsFunc(o, func(m member) bool { return m.name == f.name }) {
			w.errf(join(path, f.name), "is missing")
		}
	}
}

// members calls f for each member of an object with free names.
func (w *walk) members(path string, v any, f func(name, path string, v any)) {
	o, ok := v.(object)
	if !ok {
		w.errf(path, "got %s, want an object", describe(v))
	}
	for _, m := range o {
		f(m.name, join(path, m.name), m.value)
	}
}

func (w *walk) list(path string, v any, f func(path string, v any)) {
	l, ok := v.([]any)
	if !ok {
		w.errf(path, "got %s, want a list", describe(v))
	}
	for i, v := range l {
		f(path+"["+strconv.Itoa(i)+"]", v)
	}
}

func (w *walk) maybeText(path string, v any) (string, bool) {
	s, ok := v.(string)
	if !ok {
		w.errf(path, "got %s, want text", describe(v))
	}
	return s, ok
}

func (w *walk) text(path string, v any) string {
	s, _ := w.maybeText(path, v)
	return s
}

// maxNumber is the largest whole number that every JSON program keeps exactly.
const maxNumber = 1<<53 - 1

// integer takes a whole number from 0 to maxNumber, written in digits alone.
func (w *walk) integer(path string, v any) int64 {
	if n, ok := v.(json.Number); ok {
		if u, err := strconv.ParseUint(n.String(), 10, 53); err == nil {
			return int64(u)
		}
	}
	w.errf(path, "got %s, want a whole number from 0 to 2^53-1, in digits", describe(v))
	return 0
}

// describe says what a JSON value is, for errors.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > 40 {
			v = strings.ToValidUTF8(v[:40], "") + "…"
		}
		return "text " + strconv.Quote(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
