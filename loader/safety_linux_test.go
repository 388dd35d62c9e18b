package loader

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
)

// The kernel's own queue overflows while nobody reads: what was dropped meanwhile
// is found, though its events are lost and nothing else comes.
func TestKernelQueueOverflows(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	room, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	dir := t.TempDir()
	for _, f := range []string{"x", "y"} {
		must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
	}
	must(t, packInto(filepath.Join(dir, "first"), tiny, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "first v1")
	must(t, packInto(filepath.Join(dir, "second"), tiny, 2, 0, nil))
	// Nobody takes the second drop, so nobody reads events. These mean nothing to
	// the watcher; two in a row that are alike would be made one by the kernel.
	const read = 4096 // that fsnotify has taken out of the queue at most
	for i := range room + 2*read {
		must(t, os.Chmod(filepath.Join(dir, []string{"x", "y"}[i%2]), os.FileMode(0o600+i/2%2*0o040)))
	}
	must(t, packInto(filepath.Join(dir, "lost"), tiny, 3, 0, nil)) // no room for its events
	expect(t, w, "second v2", "lost v3")
}

// The magic numbers of statfs(2), and this machine's own file systems.
func TestRemoteFileSystems(t *testing.T) {
	for name, c := range map[string]struct {
		magic int64
		want  bool
	}{
		"nfs": {0x6969, true}, "fuse": {0x65735546, true}, "cifs": {0xff534d42, true}, "cifs in an int32": {-0xacb2be, true}, "smb2": {0xfe534d42, true},
		"9p": {0x01021997, true}, "ceph": {0x00c36400, true}, "ext4": {0xef53, false}, "xfs": {0x58465342, false}, "tmpfs": {0x01021994, false}, "overlay": {0x794c7630, false},
	} {
		if got := isRemote(c.magic); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if remote("/proc") || remote(filepath.Join(t.TempDir(), "absent")) {
		t.Error("/proc, or a directory that is not there, is taken for a remote one")
	}
	w := watch(t, t.TempDir(), 0)
	if got := w.every(); got != rescanEvery {
		t.Errorf("a local file system is read every %v, want %v", got, rescanEvery)
	}
}

// entries counts what is in a directory: the descriptors of the process, its threads.
func entries(dir string) int {
	list, _ := os.ReadDir(dir) // 0 fails a test as well
	return len(list)
}

// Two hundred drops are there at once, every tenth of them damaged: the newest
// serves, each other one is done or put aside with its reason, and descriptors,
// threads, mappings and versions in memory stay few at every moment.
func TestTwoHundredDropsAtOnce(t *testing.T) {
	const together = 200
	drops := t.TempDir()
	var mu sync.Mutex
	most := make(map[string]int)
	note := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		most[what] = max(most[what], n)
	}
	var r *rig
	w := watch(t, drops, never)
	measure := func(View) (any, error) { // while a version is brought in
		note("descriptors", entries("/proc/self/fd"))
		note("threads", entries("/proc/self/task"))
		note("mappings", int(mmap.Mappings()))
		note("versions", len(r.l.Versions("score")))
		return nil, nil
	}
	r = newRig(t, func(o *Options) { o.Source = w })
	r.shape = tiny
	must(t, r.l.call(t.Context(), func() error { r.l.opts.Prepare = measure; return nil }))
	must(t, packInto(filepath.Join(drops, "v1"), r.shape, 1, 0, atOnce))
	r.await(EventActive, 1)
	r.quiesce()
	before := map[string]int{"descriptors": entries("/proc/self/fd"), "threads": entries("/proc/self/task"), "mappings": int(mmap.Mappings())}

	made := t.TempDir()
	for n := uint64(2); n <= together+1; n++ {
		dir := filepath.Join(made, fmt.Sprint("v", n))
		must(t, packInto(dir, r.shape, n, 1, atOnce))
		if n%10 == 1 && n != together+1 {
			must(t, os.Truncate(filepath.Join(dir, delta.ManifestName), 20))
		}
	}
	list, err := os.ReadDir(made)
	must(t, err)
	for _, e := range list {
		must(t, os.Rename(filepath.Join(made, e.Name()), filepath.Join(drops, e.Name())))
	}
	r.await2(EventActive, together+1)
	answered := func() (n int) {
		must(t, r.l.call(t.Context(), func() error {
			for _, d := range r.l.drops {
				if d.status == done || d.status == quarantined {
					n++
				}
			}
			return nil
		}))
		return n
	}
	for late := time.After(time.Minute); answered() < together+1; {
		select {
		case <-r.l.Events():
		case <-late:
			t.Fatalf("%d of %d drops were answered; waiting: %+v", answered(), together+1, r.l.Waiting())
		}
	}
	r.quiesce()
	r.serves(together + 1)
	damaged, older := 0, 0
	for _, q := range r.l.Quarantined() {
		switch {
		case strings.Contains(q.Reason, ErrOlder.Error()):
			older++
		case strings.Contains(q.Reason, delta.ManifestName):
			damaged++
		default:
			t.Errorf("%+v", q)
		}
	}
	if damaged != together/10-1 || older == 0 || len(r.l.Waiting()) != 0 {
		t.Errorf("%d damaged, %d older, waiting %+v", damaged, older, r.l.Waiting())
	}
	// Active, standby, one on its way in and one on its way out.
	if n := most["versions"]; n > 4 {
		t.Errorf("%d versions were in memory at once", n)
	}
	if n := most["descriptors"] - before["descriptors"]; n > 8*maxWorkers { // a reader of a manifest, and one of a version, has a few at a time
		t.Errorf("%d more descriptors were open at once", n)
	}
	if n := most["threads"] - before["threads"]; n > 4*maxWorkers {
		t.Errorf("%d more threads ran at once", n)
	}
	if n := most["mappings"] - before["mappings"]; n > 4*16 {
		t.Errorf("%d more mappings at once", n)
	}
	r.close()
	t.Logf("most at once: %v, before %v; %d older, %d damaged", most, before, older, damaged)
}

// The pages of versions that are taken from their holder are not resident any more:
// what they copied is given back, what they mapped of files is let go.
func TestRevokedMemoryIsReturned(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Reclaim = time.Millisecond })
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)
	held, err := r.l.AcquireVersion("score", 2)
	must(t, err)
	must(t, held.With(func(w View) error { return r.shape.check(w, 2) }))
	blobs := make(map[uint64]bool)
	for im := range held.v.image.chain {
		fi, err := im.blob.f.Stat()
		must(t, err)
		blobs[inode(fi)] = true
	}
	file, private := residentOf(t, blobs)
	if file < 1000 || private == 0 {
		t.Fatalf("%d kB of its files and %d kB of copies are resident, want both", file, private)
	}
	for n := uint64(3); n <= 4; n++ { // whole: nothing of 1 and 2 is needed any more
		r.drop(n, 0, atOnce)
		r.await(EventActive, n)
	}
	if ev := r.await(EventUnloadTimeout, 2); ev.Leases != 1 || ev.Copied == 0 {
		t.Errorf("%+v, want one lease and what was copied", ev)
	}
	r.quiesce()
	if file, private := residentOf(t, blobs); file != 0 || private != 0 {
		t.Errorf("%d kB of files and %d kB of copies are still resident", file, private)
	}
	held.Release()
	r.close()
}

// TensorFlow Serving #2017: a reload doubles the memory. Triton #4528 and #4764: it is
// not given back. Here a dozen versions follow one another on one base, which is in
// memory once; what a version copies goes with it.
func TestReloadDoesNotDoubleMemory(t *testing.T) {
	r := newRig(t, nil)
	blobs := make(map[uint64]bool) // all that were ever mapped
	var copied int64               // by the version that copied most
	for n := uint64(1); n <= 12; n++ {
		r.drop(n, min(n-1, 1), atOnce)
		ev := r.await(EventActive, n)
		copied = max(copied, ev.Copied)
		lease, err := r.l.Acquire("score", 7)
		must(t, err)
		must(t, lease.With(func(w View) error { return r.shape.check(w, n) })) // every page is there
		for im := range lease.v.image.chain {
			fi, err := im.blob.f.Stat()
			must(t, err)
			blobs[inode(fi)] = true
		}
		lease.Release()
		r.quiesce()
		must(t, r.l.call(t.Context(), func() error { return nil })) // one more sweep
		_, private := residentOf(t, blobs)
		if most := 2 * copied >> 10; int64(private) > most {
			t.Errorf("with v%d %d kB are private, want at most the active and the standby version's copies, %d kB", n, private, most)
		}
	}
	if copied == 0 || copied > int64(len(r.shape.file(1)))/10 {
		t.Errorf("%d bytes were copied for a version", copied)
	}
	r.close()
	if file, private := residentOf(t, blobs); file != 0 || private != 0 {
		t.Errorf("after the end %d kB of files and %d kB of copies are mapped", file, private)
	}
}

// residentOf adds up what the process has resident of files, by inode: pages of the
// files, and private copies of such pages. In kB.
func residentOf(tb testing.TB, inodes map[uint64]bool) (file, private int) {
	tb.Helper()
	kb := smapsOf(tb, inodes)
	return kb["Rss:"] - kb["Anonymous:"], kb["Anonymous:"]
}

// smapsOf adds up what the kernel says of this process's mappings of files, by
// inode: kB by smaps' field.
func smapsOf(tb testing.TB, inodes map[uint64]bool) map[string]int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	must(tb, err)
	sums, inside := make(map[string]int), false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") { // from-to perms offset device inode name
			n, err := strconv.ParseUint(f[4], 10, 64)
			must(tb, err)
			inside = inodes[n]
		} else if kb, err := strconv.Atoi(f[1]); err == nil && inside {
			sums[f[0]] += kb
		}
	}
	return sums
}
