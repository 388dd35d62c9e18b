// Package model computes a metric in this process from a few numbers and the
// weights of a mapped model version.
//
//	ev, err := model.Build(spec, tensors)      // once a version, while it is Pending
//	score, err := ev.Eval([]float64{uv, pv})   // in the order of ev.Inputs()
//
// The formulas are written out at V1 and V2. Every operation is rounded to
// float64 by itself and nothing is fused, so another program that does the same
// operations in the same order, numpy for one, gets the same bits on every
// machine.
//
// Build reads each weight once and keeps its value: an Evaluator holds no slice
// of the mapping and still tells what was verified if the file is changed or cut
// afterwards. Only the nodes of KindTrees are looked at again for each Eval, by
// EvalSpec.Again, whose error is then Eval's. Build itself reads mapped pages: call
// it where a fault is recovered, and never on a shard.
//
// # Concurrency
//
// Models and Evaluators are immutable and safe for concurrent use. Eval takes no
// lock and allocates nothing (TestEvalAllocs), but for KindWasm, whose calls take
// an instance from a shared list and may last as long as their limit.
package model
