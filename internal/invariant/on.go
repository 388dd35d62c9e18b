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

// Poison overwrites b up to its capacity. Whoever gives memory back calls it, so
// that who still reads there is found by what it reads.
func Poison(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = Poisoned
	}
}
