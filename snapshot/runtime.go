package snapshot

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
)

// Runtime is the merged layers of layered_runtime. Make one with NewRuntime:
// it reads every value once.
type Runtime struct {
	Values map[string]string // by full key
	Layers []RuntimeLayer    // lowest first, for /runtime

	parsed map[string]runtimeValue
}

// RuntimeLayer is one layer. A value is written as in JSON, but for strings,
// which stand without quotes: "50", "true", `{"numerator":5,"denominator":"MILLION"}`.
type RuntimeLayer struct {
	Name   string
	Values map[string]string
}

// runtimeValue is what a value says as a number or as a share. Most are neither.
type runtimeValue struct {
	number   uint64
	isNumber bool
	share    Fraction // when its Denominator is not 0
}

// NewRuntime merges layers, of which later ones win.
func NewRuntime(layers []RuntimeLayer) *Runtime {
	r := &Runtime{Values: make(map[string]string), Layers: layers, parsed: make(map[string]runtimeValue)}
	for _, l := range layers {
		maps.Copy(r.Values, l.Values)
	}
	for k, v := range r.Values {
		if p := parseRuntime(v); p != (runtimeValue{}) {
			r.parsed[k] = p
		}
	}
	return r
}

// parseRuntime reads v as Envoy 1.40 does: a fraction of a number is cut off, a
// negative number and what is no number say nothing.
func parseRuntime(v string) (p runtimeValue) {
	v = strings.TrimSpace(v)
	if strings.HasPrefix(v, "{") {
		p.share, _ = parseShare(v)
		return p
	}
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		return runtimeValue{number: n, isNumber: true}
	}
	if hex, ok := strings.CutPrefix(strings.ToLower(v), "0x"); ok {
		n, err := strconv.ParseUint(hex, 16, 64)
		return runtimeValue{number: n, isNumber: err == nil}
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f < math.MaxUint64 && !strings.Contains(v, "_") {
		return runtimeValue{number: uint64(f), isNumber: true}
	}
	return p
}

// parseShare reads a FractionalPercent. A numerator that is no number counts as
// missing, and with any other mistake the whole says nothing: so does Envoy.
func parseShare(text string) (Fraction, bool) {
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil {
		return Fraction{}, false
	}
	f := Fraction{Denominator: 100}
	for k, v := range fields {
		switch k {
		case "numerator":
			n, ok := v.(float64)
			if n < 0 || n > math.MaxUint32 {
				return Fraction{}, false
			}
			if ok {
				f.Numerator = uint32(n)
			}
		case "denominator":
			name, _ := v.(string)
			if f.Denominator = denominators[name]; f.Denominator == 0 {
				return Fraction{}, false
			}
		default:
			return Fraction{}, false
		}
	}
	return f, true
}

var denominators = map[string]uint32{"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}

// value returns what is known of key. r may be nil.
func (r *Runtime) value(key string) runtimeValue {
	if r == nil || key == "" {
		return runtimeValue{}
	}
	if r.parsed == nil {
		return parseRuntime(r.Values[key]) // not made by NewRuntime
	}
	return r.parsed[key]
}

// Value returns the number under key, or def when there is none. r may be nil.
func (r *Runtime) Value(key string, def uint64) uint64 {
	if v := r.value(key); v.isNumber {
		return v.number
	}
	return def
}

// Holds reports whether f holds for a request whose random number is draw. As in
// Envoy a number under f's key is a percentage, whatever f's denominator is.
func (f *Fraction) Holds(r *Runtime, draw uint64) bool {
	numerator, denominator := uint64(f.Numerator), uint64(f.Denominator)
	switch v := r.value(f.Key); {
	case v.share.Denominator != 0:
		numerator, denominator = uint64(v.share.Numerator), uint64(v.share.Denominator)
	case v.isNumber:
		numerator, denominator = v.number, 100
	}
	return draw%denominator < numerator
}
