package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// follow runs Follow until the test ends.
func (r *rig) follow() {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.server.Follow(ctx) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func TestFollowsFiles(t *testing.T) {
	r := newRig(t, "a.yaml", cluster("a", "1s"))
	r.follow()
	c := r.connect("n", true, nil)
	c.holds(Clusters, "a", "\x22\x02\x08\x01")
	r.write("sub/b.yaml", cluster("b", "1s"))
	c.holds(Clusters, "b", "\x22\x02\x08\x01")
	r.write("sub/b.yaml", cluster("b", "2s"))
	c.holds(Clusters, "b", "\x22\x02\x08\x02")
	r.write("bad.yaml", "a: [", "sub/b.yaml", cluster("b", "3s"))
	if err := os.Remove(filepath.Join(r.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	r.write("bad.yaml", cluster("c", "1s"))
	c.holds(Clusters, "c", "\x22\x02\x08\x01")
	c.until("a is gone", func() bool { return c.has[Clusters]["a"] == "" })
}

// All files of a volume change in one step when Kubernetes swaps ..data.
func TestFollowsASwappedVolume(t *testing.T) {
	dir := t.TempDir()
	generation := func(n int, files map[string]string) {
		t.Helper()
		made := fmt.Sprintf("..2026_%d", n)
		if err := os.Mkdir(filepath.Join(dir, made), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, made, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
		}
		next := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(made, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	generation(1, map[string]string{"a.yaml": cluster("a", "1s")})
	r := newRigAt(t, dir)
	r.follow()
	c := r.connect("n", true, nil)
	c.holds(Clusters, "a", "\x22\x02\x08\x01")
	if n := r.server.Status("").Config.Resources; n != 2 {
		t.Fatalf("%d resources: the volume's own directories are no others", n)
	}
	generation(2, map[string]string{"a.yaml": cluster("a", "2s"), "b.yaml": cluster("b", "2s")})
	c.holds(Clusters, "a", "\x22\x02\x08\x02")
	c.holds(Clusters, "b", "\x22\x02\x08\x02")
}
