// Command bench prints what a request costs: in one run, for some twenty kinds of
// load, the CPU time that quadnine, HAProxy, nginx, h2o, Caddy, Envoy, the
// standard library's ReverseProxy and a plain TCP pass-through use for the same
// requests, what they add to the latency, what memory they hold, which goals the
// run meets, and where quadnine's share goes, stage by stage. See package contest
// and docs/bench.md.
//
// A second table, see package loader, shows what a new model version costs to
// bring in, beside hashing, reading and patching the whole file. A third one, see
// package xds, shows how long a change of configuration takes, beside Envoy. A
// fourth one, see package wake, shows how long a goroutine waits until it runs.
//
// # Concurrency
// One rival is measured at a time; the others stand idle meanwhile.
package main
