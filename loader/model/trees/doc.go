// Package trees evaluates gradient-boosted decision trees where their bytes lie:
// in the tensors of a mapped safetensors file, without making objects of them.
//
//	f, err := trees.Check(parts)     // once a version: every index is in range, every walk ends
//	score := f.Eval(parts, row, buf) // parts may be other slices of the same bytes
//
// docs/trees.md has the layout byte by byte. A tree's two children lie side by
// side, a leaf is its own child, and a split needs one comparison and no branch,
// so several trees are walked at once: what costs time is waiting for memory and
// for branches that were guessed wrong, and neither is waited for one by one.
//
// The sum is taken in the order of the trees, as LightGBM does, so the results
// are equal to the last bit.
//
// # Concurrency
//
// A Forest is immutable and safe for concurrent use; a Row belongs to one caller.
// Eval takes no lock and allocates nothing (TestEvalAllocs).
package trees
