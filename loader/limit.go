package loader

import (
	"os"
	"strconv"
	"strings"
)

// mappingLimit returns how many mappings the kernel gives a process.
func mappingLimit() int64 {
	const usual = 65530 // Linux's default of vm.max_map_count; others have no such file
	b, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return usual
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n <= 0 {
		return usual
	}
	return n
}
