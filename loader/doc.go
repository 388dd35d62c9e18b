// Package loader turns model versions on disk into verified, mapped and leased
// ones, and keeps their life.
//
// A drop is a directory whose MANIFEST.json was renamed into place last. A
// Source reports it; the drop is read through os.Root, copied into a private
// store while it is hashed (or verified in place), mapped (base plus extents),
// proved as a whole, and only then published: as the canary, or at once as the
// active version. Publication is one atomic pointer a model; the previous
// version stays mapped as the standby, so that taking a version back is a swap.
// A bad drop is quarantined with its reason and changes nothing else.
//
//	l, err := loader.Open(ctx, loader.Options{Store: dir, Source: src, Judge: judge})
//	lease, err := l.Acquire("score", draw)
//	defer lease.Release()
//	err = lease.With(func(v loader.View) error { ... v.Tensor("w") ... })
//
// # Concurrency
//
// Every exported method of Loader, Lease and View is safe for concurrent use.
// Acquire, Current and Release take no lock and allocate nothing. One goroutine
// maps and unmaps and owns the versions' states; Rollback, TakeBack and SetCanary
// publish from the caller's own goroutine under the model's lock, which is held for a
// few stores only. Reading and hashing run on worker threads of the lowest
// priority, one at a time for each model and eight at most (worker.go). A lease's
// bytes are read inside With, on a goroutine that may block: pages of a file can
// be evicted.
package loader
