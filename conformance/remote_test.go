package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// remoteDir is a directory that this process shows through FUSE: what is written to
// what is behind it, nobody is told of.
type remoteDir struct {
	behind, mounted string

	fail  atomic.Bool // reads of files are EIO
	stall atomic.Pointer[chan struct{}]
	stuck atomic.Int64 // reads that wait for stall
}

// newRemoteDir mounts one. Where the kernel gives us none, the test fails.
func newRemoteDir(t *testing.T) *remoteDir {
	t.Helper()
	d := &remoteDir{behind: t.TempDir(), mounted: t.TempDir()}
	root := &fs.LoopbackRoot{Path: d.behind}
	root.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &remoteNode{LoopbackNode: fs.LoopbackNode{RootData: data}, dir: d}
	}
	root.RootNode = root.NewNode(root, nil, "", nil)
	server, err := fs.Mount(d.mounted, root.RootNode, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "quadnine-conformance"}})
	if err != nil {
		t.Fatalf("no FUSE mount of our own (that takes root, and /dev/fuse): %v", err)
	}
	t.Cleanup(func() {
		if stall := d.stall.Swap(nil); stall != nil {
			close(*stall)
		}
		if err := syscall.Unmount(d.mounted, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	return d
}

type remoteNode struct {
	fs.LoopbackNode

	dir *remoteDir
}

// Open implements fs.NodeOpener.
func (n *remoteNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, _, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &remoteFile{f, n.dir}, fuse.FOPEN_DIRECT_IO, 0 // no cache hides a failure
}

type remoteFile struct {
	fs.FileHandle

	dir *remoteDir
}

// Read implements fs.FileReader.
func (f *remoteFile) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if stall := f.dir.stall.Load(); stall != nil {
		f.dir.stuck.Add(1)
		<-*stall
		f.dir.stuck.Add(-1)
	}
	r, ok := f.FileHandle.(fs.FileReader)
	if !ok || f.dir.fail.Load() {
		return nil, syscall.EIO
	}
	return r.Read(ctx, dest, off)
}

// Release implements fs.FileReleaser.
func (f *remoteFile) Release(ctx context.Context) syscall.Errno {
	if r, ok := f.FileHandle.(fs.FileReleaser); ok {
		return r.Release(ctx)
	}
	return 0
}

// TestModelsOnAFileSystemThatTellsNothing has the sidecar watch a FUSE mount that
// others write to, as on NFS. Drops are found under load. One whose reads fail is put
// aside and tried again by itself; one whose reads hang holds nobody up, and is
// active once they go on.
func TestModelsOnAFileSystemThatTellsNothing(t *testing.T) {
	m := withModels(t, 4, 0)
	m.Stop()
	d := newRemoteDir(t)
	m.watched = d.mounted
	m.restart(t)
	m.watched = d.behind // where drops are written
	m.first(t)
	w := askScores(t, m.sidecar, m.want)
	activated := func(n int) {
		t.Helper()
		w.await(t, m.sidecar, fmt.Sprint("activation of version ", n), func() bool { return m.models(w.ctx).state(n) == "active" })
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n), func() bool { return w.count(n) > 100 })
	}
	drop := func(n int) {
		t.Helper()
		m.pack(t, n, "--canary-weight", "0")
		m.drop(t, n)
	}
	drop(2)
	activated(2)

	stall := make(chan struct{})
	d.stall.Store(&stall)
	drop(3)
	w.await(t, m.sidecar, "read that hangs", func() bool { return d.stuck.Load() > 0 })
	good := w.count(2)
	w.await(t, m.sidecar, "answers while it hangs", func() bool { return w.count(2) > good+500 })
	d.stall.Store(nil)
	close(stall)
	activated(3)

	d.fail.Store(true)
	drop(4)
	w.await(t, m.sidecar, "failed read", func() bool {
		return strings.Contains(string(mustGet(t, client(t, false), "http://"+m.admin+"/models")), syscall.EIO.Error())
	})
	good = w.count(3)
	w.await(t, m.sidecar, "answers while reads fail", func() bool { return w.count(3) > good+500 })
	d.fail.Store(false)
	activated(4)
	w.end(t)
}
