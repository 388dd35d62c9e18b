// Package lightgbm reads the text that LightGBM saves a model as and makes a
// forest of it.
//
//	m, err := lightgbm.Parse(file)
//	parts, err := m.Parts() // the tensors of a version
//
// What this program cannot compute exactly as LightGBM does is refused with the
// line that asks for it: more than one class, linear trees, objectives it does
// not know, and every member of a tree that it has never seen.
//
// # Concurrency
//
// Parse keeps nothing between calls and is safe for concurrent use.
package lightgbm
