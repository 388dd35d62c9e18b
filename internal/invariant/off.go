//go:build !invariants

package invariant

// Enabled reports whether the checks are compiled in.
const Enabled = false

// Check does nothing without the build tag invariants.
func Check(bool, string) {}

// Poison does nothing without the build tag invariants.
func Poison([]byte) {}
