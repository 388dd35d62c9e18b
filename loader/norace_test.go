//go:build !race

package loader

const patchMemory = 256 << 20 // bytes that children of tests may take
