// Package contest runs the cases of the table of requests: each puts the same
// load on every proxy in turn and reads from the kernel what the proxy used.
//
// The proxy is bound to one CPU, client and backend share another. All proxies
// of a case stand ready at once, and every round measures each of them, so that
// what disturbs the machine disturbs all. CPU time is the kernel's count for the
// proxy's process group: it holds whether or not the proxy was busy all the time.
//
// Proxies that need the same backend share a stand; a stand's cases run one
// after the other. A proxy that does not start or fails in a case has no figure
// there, the table says why, and Run's error names it.
//
// # Concurrency
// One contest at a time. Nothing here is safe for concurrent use.
package contest
