package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// ErrSchema is what an input is that its rule refuses: neither the model's fault
// nor the upstream's.
var ErrSchema = errors.New("input refused by the version's schema")

// Rule is what an input must be. Its JSON names are those of eval.schema.
type Rule struct {
	Type       string   `json:"type"`                 // one of the types below
	Required   bool     `json:"required"`             // it must be there, and not null
	Default    *float64 `json:"default,omitempty"`    // what a missing one is; nil: NaN, where the kind takes that
	Min        *float64 `json:"min,omitempty"`        // of a number
	Max        *float64 `json:"max,omitempty"`        // of a number
	Categories []string `json:"categories,omitempty"` // of a category: its number is its place
}

// The types.
const (
	TypeNumber   = "number"
	TypeInteger  = "integer"  // a number without a fraction
	TypeBoolean  = "boolean"  // true is 1, false 0
	TypeCategory = "category" // text
)

// check reports what is wrong with a rule, beginning with its field.
func (r *Rule) check() error {
	numeric := r.Type == TypeNumber || r.Type == TypeInteger
	switch {
	case !numeric && r.Type != TypeBoolean && r.Type != TypeCategory:
		return fmt.Errorf(".type is %q: want %s, %s, %s or %s", r.Type, TypeNumber, TypeInteger, TypeBoolean, TypeCategory)
	case !numeric && (r.Min != nil || r.Max != nil):
		return fmt.Errorf(": min and max are not for a %s", r.Type)
	case r.Min != nil && r.Max != nil && *r.Min > *r.Max:
		return fmt.Errorf(".min is %v, max %v: nothing is between them", *r.Min, *r.Max)
	case (r.Type == TypeCategory) != (len(r.Categories) > 0):
		return errors.New(".categories: a category needs them, and nothing else has them")
	case r.Required && r.Default != nil:
		return errors.New(".default is never used: required is true")
	}
	for i, c := range r.Categories {
		if slices.Contains(r.Categories[:i], c) {
			return fmt.Errorf(".categories[%d] is %q, which is there before", i, c)
		}
	}
	if d := r.Default; d != nil {
		if why := r.refuses(*d); why != "" {
			return fmt.Errorf(".default is %v: %s", *d, why)
		}
	}
	return nil
}

// refuses says why a number is not what the rule wants, "" when it is.
func (r *Rule) refuses(v float64) string {
	switch {
	case r.Type == TypeBoolean && v != 0 && v != 1:
		return "want 0 or 1"
	case r.Type == TypeCategory && !(v >= 0 && v < float64(len(r.Categories)) && v == math.Trunc(v)):
		return "want the place of a category"
	case r.Type == TypeInteger && v != math.Trunc(v):
		return "want a whole number"
	case r.Min != nil && v < *r.Min:
		return fmt.Sprintf("want at least %v", *r.Min)
	case r.Max != nil && v > *r.Max:
		return fmt.Sprintf("want at most %v", *r.Max)
	default:
		return ""
	}
}

// Read returns the number that a reply's member is, which is nil when there is
// none. Every error is ErrSchema and says what is wanted, not for which input.
func (r *Rule) Read(text []byte) (float64, error) {
	if len(text) == 0 || string(text) == "null" {
		switch {
		case r.Required:
			return 0, fmt.Errorf("it is missing: want a %s: %w", r.Type, ErrSchema)
		case r.Default != nil:
			return *r.Default, nil
		default:
			return math.NaN(), nil
		}
	}
	switch r.Type {
	case TypeBoolean:
		switch string(text) {
		case "true":
			return 1, nil
		case "false":
			return 0, nil
		}
	case TypeCategory:
		var s string
		if text[0] == '"' && json.Unmarshal(text, &s) == nil {
			if i := slices.Index(r.Categories, s); i >= 0 {
				return float64(i), nil
			}
			return 0, fmt.Errorf("it is %.40q: want one of %d categories: %w", s, len(r.Categories), ErrSchema)
		}
	default:
		if v, err := strconv.ParseFloat(string(text), 64); err == nil && text[0] != '"' {
			if why := r.refuses(v); why != "" {
				return 0, fmt.Errorf("it is %v: %s: %w", v, why, ErrSchema)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("it is %.40s: want a %s: %w", text, r.Type, ErrSchema)
}

// Meaning differs between rules that make other numbers of the same text. Rules
// that only refuse more or less have the same.
func (r *Rule) Meaning() string {
	switch {
	case r.Type == TypeCategory:
		return fmt.Sprintf("%q else %s", r.Categories, r.missing())
	case r.Type == TypeBoolean:
		return "boolean else " + r.missing()
	case r.Required:
		return ""
	default:
		return "else " + r.missing()
	}
}

// missing is what a value that is not there is.
func (r *Rule) missing() string {
	switch {
	case r.Required:
		return "refused"
	case r.Default == nil:
		return "NaN"
	default:
		return strconv.FormatFloat(*r.Default, 'g', -1, 64)
	}
}

// Narrower lists, by input, what a schema refuses that an older one accepts.
func Narrower(old, fresh map[string]Rule, inputs []string) (out []string) {
	anything := Rule{Type: TypeNumber, Required: true}
	for _, name := range inputs {
		a, b := anything, anything
		if r, ok := old[name]; ok {
			a = r
		}
		if r, ok := fresh[name]; ok {
			b = r
		}
		if why := b.narrower(&a); why != "" {
			out = append(out, name+": "+why)
		}
	}
	return out
}

// narrower says what r refuses and a accepts, "" when nothing is.
func (r *Rule) narrower(a *Rule) string {
	switch {
	case r.Type != a.Type && (r.Type != TypeNumber || a.Type != TypeInteger):
		return fmt.Sprintf("wants a %s, not a %s", r.Type, a.Type)
	case r.Required && !a.Required:
		return "must be there"
	case r.Min != nil && (a.Min == nil || *a.Min < *r.Min):
		return fmt.Sprintf("wants at least %v", *r.Min)
	case r.Max != nil && (a.Max == nil || *a.Max > *r.Max):
		return fmt.Sprintf("wants at most %v", *r.Max)
	}
	for _, c := range a.Categories {
		if !slices.Contains(r.Categories, c) {
			return fmt.Sprintf("does not know the category %.40q", c)
		}
	}
	return ""
}
