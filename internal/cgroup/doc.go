// Package cgroup reads how much memory the process's control group allows: the
// kernel kills what takes more. Version 2 is read, and the memory controller of
// version 1.
//
// # Concurrency
//
// All functions and methods are safe for concurrent use: they read files.
package cgroup
