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
