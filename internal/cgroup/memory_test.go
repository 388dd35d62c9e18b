package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files              map[string]string
		limit, used, fixed int64
	}{
		"none": {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0, 0, 0},
		"own":  {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "10\n"}, 1000, 10, 10},
		"parent": {map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "2000\n",
			"sys/fs/cgroup/a/memory.max": "1500\n", "sys/fs/cgroup/a/memory.current": "150\n",
			"sys/fs/cgroup/a/memory.stat": "anon 20\nfile 130\ninactive_file 50\nactive_file 60\nshmem 20\n",
		}, 1500, 150, 40},
		"host's path": {map[string]string{"proc/self/cgroup": "0::/kube/pod\n", "sys/fs/cgroup/memory.max": "700\n", "sys/fs/cgroup/memory.current": "7\n"}, 700, 7, 7},
		"version 1": {map[string]string{
			"proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "900\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "90\n",
			"sys/fs/cgroup/memory/a/memory.stat":           "active_file 1\ntotal_active_file 20\ntotal_inactive_file 30\n",
		}, 900, 90, 40},
		"v1 unlimited": {map[string]string{"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 0, 0, 0},
		"no files":     {nil, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			g := Memory(root)
			if g == nil {
				if c.limit != 0 {
					t.Fatal("no group with a limit")
				}
				return
			}
			if g.Limit() != c.limit || g.Used() != c.used || g.Fixed() != c.fixed {
				t.Errorf("%d, %d of them fixed, of %d, want %d, %d, %d", g.Used(), g.Fixed(), g.Limit(), c.used, c.fixed, c.limit)
			}
		})
	}
}
