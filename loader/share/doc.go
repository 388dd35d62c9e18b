// Package share shows model versions to other processes on the machine, which map
// them themselves: the shared mode's server. The protocol is loader/wire's, the
// page is docs/shared.md, the client loader/client.
//
// A Server is a loader.Sharer. A version is shown to every attached process
// before the loader makes it the canary or the active one; each maps it, checks
// its root, and says so. What is switched to, is switched to by all of them. A
// version that is out of use is asked back; who does not let go of it within the
// reclaim time is cut off, and the version counts as freed only when the process
// is seen not to map it any more, or to have ended.
//
//	srv, err := share.Listen(ctx, share.Options{Socket: "/run/quadnine/models.sock"})
//	l, err := loader.Open(ctx, loader.Options{Sharer: srv, ...})
//	defer srv.Close() // before the loader's
//
// Descriptors are read-only and of open file descriptions of their own. A process
// that could open the store's files for writing (root, their owner, or anybody
// when the mode allows it) gets sealed copies in memory in their place, within
// Options.Sealed bytes.
//
// # Concurrency
//
// Every method of Server is safe for concurrent use, and none but Close waits for
// a client: each has a goroutine that reads and one that writes, with a deadline
// and a bounded queue. One more looks at processes that are gone.
package share
