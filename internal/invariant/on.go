//go:build invariants

package invariant

// Enabled reports whether the checks are compiled in.
const Enabled = true

// Check panics with what when ok is false.
func Check(ok bool, what string) {
	if !ok {
		panic("invariant broken: " + what)
	}
}
