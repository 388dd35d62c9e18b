package delta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// canonical returns the one form of the manifest that is signed: its JSON
// without signature, written as RFC 8785 says. What Marshal would leave out is
// not there, and what ParseManifest fills in is; so two texts that mean the same
// have one form, and every field that has an effect is in it.
func (m *Manifest) canonical() ([]byte, error) {
	c := *m
	c.Signature = nil
	if c.Canary != nil {
		canary := *c.Canary
		canary.Weight += 0 // -0 becomes 0: RFC 8785 knows one zero
		c.Canary = &canary
	}
	c.plainZeros()
	text, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // encoding/json writes numbers as ECMAScript does, which is what the RFC asks for
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return appendCanonical(make([]byte, 0, len(text)), tree), nil
}

// appendCanonical appends what a decoder made of JSON.
func appendCanonical(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		names := slices.SortedFunc(maps.Keys(v), func(a, b string) int { // RFC 8785, 3.2.3: by UTF-16 code units
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		})
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendCanonicalText(dst, name), ':')
			dst = appendCanonical(dst, v[name])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, x := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCanonical(dst, x)
		}
		return append(dst, ']')
	case string:
		return appendCanonicalText(dst, v)
	default: // a number, as its text, or a boolean: a manifest has no null
		return fmt.Append(dst, v)
	}
}

// appendCanonicalText escapes what RFC 8785, 3.2.2.2, says, and nothing else.
func appendCanonicalText(dst []byte, s string) []byte {
	const short = "\b\t\n\f\r\"\\"
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		switch at := strings.IndexByte(short, c); {
		case at >= 0:
			dst = append(dst, '\\', `btnfr"\`[at])
		case c < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
