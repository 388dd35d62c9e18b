// Package client maps the model versions of a sidecar into this process: the
// shared mode's client. The bytes are those that the sidecar maps, in the same
// pages of memory; nothing is copied but a few pages a delta.
//
//	c, err := client.Open(ctx, "/run/quadnine/models.sock", "score")
//	defer c.Close()
//	lease, err := c.Acquire(rand.Uint64())
//	defer lease.Release()
//	err = lease.With(func(v client.View) error { dtype, b, ok := v.Tensor("w"); ... })
//
// Each version's root is checked over what was mapped before it can be had. Which
// version answers is the sidecar's decision: all attached processes switch to it
// once all of them are ready, and back when it is taken back. When the sidecar is
// gone the last version goes on answering, and the client attaches again.
//
// # Concurrency
//
// Every method is safe for concurrent use. Acquire and Release take no lock and
// allocate nothing. A lease's bytes are read inside With, under
// debug.SetPanicOnFault, on the goroutine that called it.
package client
