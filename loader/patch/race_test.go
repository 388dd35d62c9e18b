//go:build race

package patch

const memory = 0 // the race detector maps more than any limit that would be one
