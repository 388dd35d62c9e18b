package snapshot

import (
	"maps"
	"testing"
)

// TestFractionsFollowTheRuntime holds what Envoy 1.40 answered.
func TestFractionsFollowTheRuntime(t *testing.T) {
	const kept = 1 << 31                        // the default's
	for value, want := range map[string]uint64{ // how many of a million draws hold, in percent
		"100": 100, "0": 0, "50": 50, "101": 100, "1000": 100, "100.0": 100, "0.5": 0, "100.5": 100, "1e2": 100, " 0 ": 0, "+0": 0, "0.0": 0, "0x0": 0, "0x32": 50,
		"-1": kept, "true": kept, "false": kept, "zz": kept, "": kept, "nan": kept, "inf": kept, "1e30": kept, "1_0": kept, "numerator: 0": kept, "5/100": kept,
		`{"numerator":50,"denominator":"HUNDRED"}`: 50, `{"numerator":0,"denominator":"MILLION"}`: 0, `{"numerator":250000,"denominator":"MILLION"}`: 25,
		`{"numerator":7500,"denominator":"TEN_THOUSAND"}`: 75, `{"numerator":30}`: 30, `{}`: 0, `{"numerator":200}`: 100, `{"numerator":99.5}`: 99,
		`{"numerator":"100"}`: 0, `{"numerator":true}`: 0, `{"numerator":0,"x":1}`: kept, `{"numerator":0,"denominator":2}`: kept,
		`{"numerator":0,"denominator":"X"}`: kept, `{"numerator":0,"denominator":null}`: kept, `{"numerator":`: kept,
	} {
		r := NewRuntime([]RuntimeLayer{{Values: map[string]string{"k": value}}})
		for _, def := range []uint32{0, 10} {
			f := &Fraction{Key: "k", Numerator: def * 10_000, Denominator: 1_000_000}
			got := uint64(0)
			for draw := range uint64(1_000_000) {
				if f.Holds(r, draw) {
					got++
				}
			}
			wanted := want
			if want == kept {
				wanted = uint64(def)
			}
			if got != wanted*10_000 {
				t.Errorf("%q with default %d %%: %d of a million, want %d %%", value, def, got, wanted)
			}
		}
	}
	if f := (&Fraction{Key: "k", Numerator: 1, Denominator: 100}); !f.Holds(nil, 100) || f.Holds(nil, 1) {
		t.Error("the default does not hold without a runtime")
	}
}

func TestLaterLayersWin(t *testing.T) {
	layers := []RuntimeLayer{
		{Name: "static", Values: map[string]string{"a": "1", "b": "2", "c": "3"}},
		{Name: "server", Values: map[string]string{"b": "20", "c": "no number"}},
		{Name: "admin", Values: map[string]string{"d": "400"}},
	}
	r := NewRuntime(layers)
	if want := map[string]string{"a": "1", "b": "20", "c": "no number", "d": "400"}; !maps.Equal(r.Values, want) {
		t.Errorf("values %v, want %v", r.Values, want)
	}
	for key, want := range map[string]uint64{"a": 1, "b": 20, "c": 7, "d": 400, "e": 7, "": 7} {
		if got := r.Value(key, 7); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	if (&Runtime{Values: map[string]string{"a": "1"}}).Value("a", 7) != 1 {
		t.Error("a runtime made by hand has no values")
	}
	if (*Runtime)(nil).Value("a", 7) != 7 {
		t.Error("no runtime has a value")
	}
}
