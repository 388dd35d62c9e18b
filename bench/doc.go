// Command bench prints what a request costs: one table, from one run, of the
// CPU time that quadnine, HAProxy, nginx, Envoy, the standard library's
// ReverseProxy and a plain TCP pass-through use for the same requests, and where
// quadnine's share goes, stage by stage.
//
// The proxy is bound to one CPU, the client (h2load) and the backend (nginx) to
// another. Every round measures every rival once; the table shows medians over
// the rounds. CPU time is the kernel's count for the proxy's process group, so
// the numbers hold while the client is the bottleneck; requests a second do not,
// and are shown to tell whether a proxy was saturated.
//
// A second table, see package loader, shows what a new model version costs to
// bring in, beside hashing, reading and patching the whole file. A third one, see
// package xds, shows how long a change of configuration takes, beside Envoy.
//
// # Concurrency
// One rival is measured at a time; the others stand idle meanwhile.
package main
