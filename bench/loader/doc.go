// Package loader measures what bringing in a model version costs, and prints it
// beside the ways that exist without the loader: reading or hashing the whole
// file, and applying a bsdiff4 or zstd patch.
//
// Two pairs of seeded safetensors files are made in a scratch folder. Pair D
// changes whole tensors, every page of one and runs of pages of others, so that
// its delta has both forms: tensors shipped whole and pages mapped over the
// base's. Pair S changes the same and thousands of scattered rows. Every run is a process of its own, so that no run
// pays for, or profits from, another one's heap; all files are in the page cache.
// Rounds are interleaved: each measures everything once.
//
// # Concurrency
// One run at a time. Nothing here is safe for concurrent use.
package loader
