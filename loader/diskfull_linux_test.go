package loader

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
)

// disk is where a store lies that can be made full: by the kernel, not by us.
type disk interface {
	dir() string
	// fill leaves room for n more bytes, of one file or of all. It runs on any
	// goroutine.
	fill(n int64) error
	// free gives all room back.
	free() error
}

// limited is any disk, under the process's limit of a file's size: the kernel
// writes up to there, then says EFBIG. It needs no rights.
type limited struct {
	at  string
	old unix.Rlimit
}

func (d *limited) dir() string { return d.at }

func (d *limited) fill(n int64) error {
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(n), Max: d.old.Max})
}

func (d *limited) free() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &d.old) }

// small is a file system in memory of a few megabytes, which only this process
// sees.
type small struct{ at string }

const (
	smallSize  = 32 << 20
	smallFiles = 400
)

func (d *small) dir() string { return filepath.Join(d.at, "stores") }

func (d *small) fill(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.at, &st); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(d.at, "ballast"))
	if err != nil {
		return err
	}
	buf := make([]byte, st.Bsize)
	for range int64(st.Bavail) - n/st.Bsize {
		if _, err := f.Write(buf); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// occupy leaves room for n more files.
func (d *small) occupy(n int) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.at, &st); err != nil {
		return err
	}
	dir := filepath.Join(d.at, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range int(st.Ffree) - 1 - n {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d *small) free() error {
	return errors.Join(os.RemoveAll(filepath.Join(d.at, "ballast")), os.RemoveAll(filepath.Join(d.at, "files")))
}

// fullDiskArm tells a child of TestFullDisk which disk it is to fill.
const (
	fullDiskArm = "QUADNINE_FULL_DISK"
	mountDenied = "the kernel mounts nothing for us here"
)

// TestFullDisk lets the kernel run out of room while a drop is brought in, at
// every step that writes. It happens in a process of its own: under a limit of
// the file size, which every Linux has, and on a small tmpfs in a mount namespace
// of its own, where the kernel lets us have one. What is demanded is the same.
func TestFullDisk(t *testing.T) {
	switch os.Getenv(fullDiskArm) {
	case "limit":
		d := &limited{at: t.TempDir()}
		must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &d.old))
		fullDisk(t, d)
		return
	case "tmpfs":
		d := &small{t.TempDir()}
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("tmpfs", d.at, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=%d", smallSize, smallFiles))
		}
		if errors.Is(err, os.ErrPermission) {
			t.Fatalf("%s: %v", mountDenied, err)
		}
		must(t, err)
		defer func() { must(t, unix.Unmount(d.at, unix.MNT_DETACH)) }()
		must(t, os.Mkdir(d.dir(), 0o755))
		fullDisk(t, d)
		fullOfFiles(t, d)
		return
	}
	t.Run("limit", func(t *testing.T) {
		if out, err := fullDiskChild(t, "limit", nil); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("tmpfs", func(t *testing.T) {
		spaces := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
			spaces.Cloneflags |= unix.CLONE_NEWUSER
			spaces.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
			spaces.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
		}
		out, err := fullDiskChild(t, "tmpfs", spaces)
		denied := strings.Contains(out, mountDenied)
		for _, e := range []error{os.ErrPermission, unix.ENOSPC, unix.EINVAL, unix.ENOSYS} { // what clone says where namespaces are switched off
			denied = denied || errors.Is(err, e)
		}
		switch {
		case err == nil:
		case denied:
			// Told, and not passed over: conformance fills a tmpfs under the built
			// program, and fails where it cannot have one.
			t.Skipf("no tmpfs of our own here, only the file size limit was tested: run make conformance as root (%v)\n%s", err, out)
		default:
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// fullDiskChild runs TestFullDisk's other half.
func fullDiskChild(t *testing.T, arm string, attr *syscall.SysProcAttr) (out string, err error) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestFullDisk$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), fullDiskArm+"="+arm)
	cmd.SysProcAttr = attr
	b, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(b, []byte("--- PASS: TestFullDisk/")) {
		err = errors.New("the child tested nothing")
	}
	return string(b), err
}

// onDisk is a rig whose store lies on d, with v1 active.
func onDisk(t *testing.T, d disk) *rig {
	t.Helper()
	store := filepath.Join(d.dir(), "store")
	must(t, os.Mkdir(store, 0o755))
	r := newRig(t, func(o *Options) { o.Store = store })
	t.Cleanup(func() {
		must(t, d.free())
		r.close()
		must(t, os.RemoveAll(store))
	})
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.quiesce()
	return r
}

// fullDisk fills d at each step of bringing a drop in.
func fullDisk(t *testing.T, d disk) {
	t.Helper()
	for _, c := range []struct {
		name string
		base uint64
		at   string // the file whose making the disk is filled at; empty: before
		room int64
		want string // in the reason
	}{
		{name: "no room for the copy", at: blobFile, want: "copying"},
		{name: "in the middle of the copy", at: blobFile, room: 600 << 10, want: "copying"},
		{name: "in the middle of a delta's copy", base: 1, at: blobFile, room: 100 << 10, want: "copying"},
		{name: "at the leaves", at: leavesFile},
		{name: "at the leaves of a delta, which is proved after it was brought in", base: 1, at: leavesFile},
		{name: "at the manifest", at: manifestFile},
		{name: "at the origin", base: 1, at: originFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := onDisk(t, d)
			var written int64
			create := r.l.store.create
			r.l.store.create = func(name string) (file, error) {
				f, err := create(name)
				if err == nil && filepath.Base(name) == c.at {
					err = d.fill(c.room)
				}
				return &counted{f, &written, filepath.Base(name) == blobFile}, err
			}
			r.drop(2, c.base, atOnce)
			r.fullAt(2, c.want)
			r.quiesce()
			if c.at == blobFile && (written > c.room || c.room > 0 && written == 0) {
				t.Errorf("%d bytes were copied into room for %d", written, c.room)
			}
			r.l.store.create = create
			must(t, d.free())
			r.recovered()
		})
	}
	if s, ok := d.(*small); ok {
		t.Run("before the copy", func(t *testing.T) {
			r := onDisk(t, d)
			must(t, s.fill(1<<20))
			r.drop(2, 0, atOnce)
			r.fullAt(2, "the store's disk has")
			must(t, s.free())
			r.recovered()
		})
	}
}

// fullOfFiles leaves room for so many files, and for all the bytes one wants.
func fullOfFiles(t *testing.T, d *small) {
	t.Helper()
	for base, files := range []int{5, 5} { // the folder, blob, leaves (of a delta: after it was brought in), manifest, origin
		for n := range files {
			t.Run(fmt.Sprintf("room for %d files, base %d", n, base), func(t *testing.T) {
				r := onDisk(t, d)
				must(t, d.occupy(n))
				r.drop(2, uint64(base), atOnce)
				r.fullAt(2, unix.ENOSPC.Error())
				must(t, d.free())
				r.recovered()
			})
		}
	}
}

// counted counts what came to be written.
type counted struct {
	file

	n     *int64
	count bool
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	if c.count {
		*c.n += int64(n)
	}
	return n, err
}

// fullAt waits until version n's drop is put aside for a full disk, and checks
// that v1 serves and nothing of the drop is left.
func (r *rig) fullAt(n uint64, want string) {
	r.t.Helper()
	ev := r.await(EventQuarantined, n)
	q := quarantineOf(r.l, ev.Drop)
	if q == nil || !errors.Is(q.Reason, ErrDiskFull) || !strings.Contains(ev.Reason, want) {
		r.t.Errorf("quarantined for %v: %+v, want %v and %q", ev.Reason, q, ErrDiskFull, want)
	}
	listed := r.l.Quarantined()
	if len(listed) != 1 || listed[0].Version != n || listed[0].Reason != ev.Reason || listed[0].Retry.IsZero() {
		r.t.Errorf("/models would show %+v", listed)
	}
	r.serves(1)
	r.quiesce()
	r.noOrphans()
	if left := folders(r.t, r.opts.Store); left != "models/score/1" {
		r.t.Errorf("in the store: %s", left)
	}
}

// recovered checks that the drop passes once there is room again, and a new one
// too, and that a restart finds them.
func (r *rig) recovered() {
	r.t.Helper()
	r.report("v2")
	r.await2(EventActive, 2)
	r.serves(2)
	r.drop(3, 2, func(p *delta.Pack) { p.Manifest.Canary.Weight = 100 })
	r.await2(EventCanary, 3)
	lease, err := r.l.Acquire("score", math.MaxUint64)
	must(r.t, err)
	if got := lease.Info().Number; got != 3 {
		r.t.Errorf("v%d answers, want v3", got)
	}
	must(r.t, lease.With(func(w View) error { return r.shape.check(w, 3) }))
	lease.Release()
	r.judge.say(3, Promote)
	r.await2(EventActive, 3)
	r.serves(3)
	r.settled()
	r.noOrphans()
	r.close()
	r.open()
	r.serves(3)
	if len(r.l.Quarantined()) != 0 {
		r.t.Errorf("after the restart: %+v", r.l.Quarantined())
	}
}
