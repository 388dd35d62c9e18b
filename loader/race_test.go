//go:build race

package loader

const patchMemory = 0 // the race detector maps more than any limit that would be one
