// Package stage attributes the samples of a CPU profile to the stages of a
// request: system calls, frames, header compression, pipeline, policy,
// telemetry, mailboxes, memory, scheduler.
//
// # Concurrency
// Of is a pure function.
package stage
