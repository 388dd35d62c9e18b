package conformance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// smallDisk is a tmpfs that a sidecar has its store on, in a mount namespace of
// its own: what it says when it is full, the kernel says.
type smallDisk struct{ at string } // seen from here

// onSmallDisk starts the sidecar with its store on a tmpfs of 64 MiB and 500
// files. Where the kernel gives us none, the test fails.
func (m *modelStand) onSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	unshare, err := proc.Find("unshare")
	if err != nil {
		t.Fatal(err)
	}
	a := addrs(t, 2)
	args := []string{"--mount"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `mount -t tmpfs -o size=64m,nr_inodes=500 tmpfs "$1" && shift && exec "$@"`, "sh", m.store,
		bin.quadnine, "run", "--listen", a[0], "--admin", a[1], "--upstream", "http://"+m.upstream, "--models", m.watched, "--model-store", m.store)
	m.sidecar = &sidecar{Proc: start(t, unshare, args), addr: a[0], admin: a[1]}
	err = m.Await(deadline(t, within), "mount a tmpfs of its own (root, or user namespaces) and answer /ready with 200", func(ctx context.Context) bool {
		status, _, err := get(ctx, http.DefaultClient, "http://"+m.admin+"/ready")
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &smallDisk{fmt.Sprintf("/proc/%d/root%s", m.PID(), m.store)}
	if st := d.stat(t); int64(st.Blocks)*st.Bsize != 64<<20 {
		t.Fatalf("%s is no tmpfs of 64 MiB: %+v", d.at, st)
	}
	return d
}

func (d *smallDisk) stat(t *testing.T) (st syscall.Statfs_t) {
	t.Helper()
	if err := syscall.Statfs(d.at, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// fillBytes leaves room for n more bytes.
func (d *smallDisk) fillBytes(t *testing.T, n int64) {
	t.Helper()
	st := d.stat(t)
	if err := os.WriteFile(d.ballast(), make([]byte, int64(st.Bavail)*st.Bsize-n), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fillFiles leaves room for n more files.
func (d *smallDisk) fillFiles(t *testing.T, n int) {
	t.Helper()
	if err := os.Mkdir(d.ballast(), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range int(d.stat(t).Ffree) - n {
		if err := os.WriteFile(filepath.Join(d.ballast(), strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.at, "ballast") }

// free gives the room back.
func (d *smallDisk) free(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(d.ballast()); err != nil {
		t.Fatal(err)
	}
}

// holds lists the versions and the drops under way in the store.
func (d *smallDisk) holds(t *testing.T) string {
	t.Helper()
	var out []string
	for _, part := range []string{"models/score/*", "tmp/*"} {
		list, err := filepath.Glob(filepath.Join(d.at, part))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			out = append(out, strings.TrimPrefix(name, d.at+"/"))
		}
	}
	return strings.Join(out, " ")
}

// quarantined returns why version n's drop is not used, "" when it is.
func (p modelsPage) quarantined(n int) string {
	for _, m := range p.Models {
		for _, q := range m.Quarantined {
			if q.Drop == fmt.Sprint("score-v", n) {
				return q.Reason
			}
		}
	}
	return ""
}

// TestModelsOnAFullDisk fills the disk of the store, with bytes and with files,
// under load: the active version goes on to answer, nothing of the drop is left,
// and once there is room the sidecar brings the same drop in by itself.
func TestModelsOnAFullDisk(t *testing.T) {
	m := withModels(t, 3, 0)
	m.Stop()
	d := m.onSmallDisk(t)
	m.first(t)
	w := askScores(t, m.sidecar, m.want)
	for i, c := range []struct {
		fill func()
		want string // in the reason
	}{
		{func() { d.fillBytes(t, 1<<20) }, "the store's disk has"},
		{func() { d.fillFiles(t, 2) }, syscall.ENOSPC.Error()},
	} {
		n, held := 2+i, d.holds(t)
		m.pack(t, n, "--canary-weight", "0")
		c.fill()
		m.drop(t, n)
		why := ""
		w.await(t, m.sidecar, fmt.Sprint("quarantine of version ", n), func() bool { why = m.models(w.ctx).quarantined(n); return why != "" })
		if !strings.Contains(why, "disk full") || !strings.Contains(why, c.want) {
			t.Errorf("version %d is quarantined for %q, want a full disk and %q", n, why, c.want)
		}
		good := w.count(n - 1)
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n-1), func() bool { return w.count(n-1) > good+200 })
		if got := d.holds(t); got != held {
			t.Errorf("with version %d put aside the store holds %s, want %s", n, got, held)
		}
		if got := m.models(w.ctx).state(n - 1); got != "active" {
			t.Errorf("version %d is %q", n-1, got)
		}
		d.free(t)
		w.await(t, m.sidecar, fmt.Sprint("activation of version ", n), func() bool { return m.models(w.ctx).state(n) == "active" })
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n), func() bool { return w.count(n) > 200 })
	}
	w.end(t)
}
