package quadnine

import "testing"

func TestKeyText(t *testing.T) {
	for want, k := range map[string]Key{
		"acme/cpu":      {"acme", "cpu"},
		"_other/":       {Tenant: OtherTenant},
		"a/b/c/d":       {"a/b", "c/d"}, // not escaped: for people only
		"/":             {},
		"caf\xc3\xa9/x": {"café", "x"},
	} {
		if got := k.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestKeysCompare: a Key is a map key; its parts do not run into one another.
func TestKeysCompare(t *testing.T) {
	m := map[Key]int{{"a", "b"}: 1, {"a/b", ""}: 2, {"a", ""}: 3, {"", "a"}: 4}
	if len(m) != 4 || m[Key{"a", "b"}] != 1 || m[Key{"a/b", ""}] != 2 {
		t.Errorf("keys collide: %v", m)
	}
}
