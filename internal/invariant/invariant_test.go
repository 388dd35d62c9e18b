package invariant

import "testing"

func TestCheck(t *testing.T) {
	Check(true, "never")
	defer func() {
		if broken := recover() != nil; broken != Enabled {
			t.Errorf("a broken invariant panicked: %v, checks compiled in: %v", broken, Enabled)
		}
	}()
	Check(false, "on purpose")
}

func TestPoison(t *testing.T) {
	b := []byte("given back")
	Poison(b[:3])
	if gone := b[0] == Poisoned && b[len(b)-1] == Poisoned; gone != Enabled {
		t.Errorf("%q is left, checks compiled in: %v", b, Enabled)
	}
}
