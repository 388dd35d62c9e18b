//go:build unix && !linux

package loader

// lower has no priority of single threads to set here.
func lower() {}
