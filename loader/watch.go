package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/quadnine/quadnine/loader/delta"
)

const (
	rescanEvery  = 5 * time.Second        // loader.md, design 7
	rescanRemote = 500 * time.Millisecond // likewise, where the kernel does not tell of what others write
	maxDepth     = 2                      // DIR/MANIFEST.json, DIR/DROP/MANIFEST.json, DIR/MODEL/DROP/MANIFEST.json
	dataLink     = "..data"               // what Kubernetes swaps to change all files of a volume at once
)

// Watcher is a Source that watches a directory. What the kernel tells is a hint
// only: the directory's content is the truth, and it is read again every few
// seconds even when nothing was told.
//
// A drop is a directory with a MANIFEST.json: the watched one, one in it, or one
// in that. Names that begin with a dot are passed over.
type Watcher struct {
	dir    string
	rescan time.Duration // 0: by the file system
	notify *fsnotify.Watcher
	add    func(dir string) error // watches a directory; tests have one that tells nothing
	remote func(dir string) bool  // whether others write there unheard
	c      chan Candidate
	done   chan struct{}
	wg     sync.WaitGroup

	known map[string]mark // of the goroutine
}

// mark tells one commit of a drop from the next.
type mark struct {
	ino         uint64
	size, mtime int64
	target      string // of ..data, or of a link that leads out
}

// Watch starts to watch dir, which need not exist yet. rescan is how often it is
// read even when nothing is told; 0 means every 5 s, and every 500 ms on file systems
// of which the kernel does not tell what other machines write: NFS, FUSE, SMB, 9P,
// Ceph.
func Watch(dir string, rescan time.Duration) (*Watcher, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("loader: watch %s: %w", dir, err)
	}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("loader: watch %s: %w", dir, err)
	}
	w := &Watcher{
		dir: abs, rescan: max(rescan, 0), notify: n, add: n.Add, remote: remote,
		c: make(chan Candidate), done: make(chan struct{}), known: make(map[string]mark),
	}
	w.wg.Go(w.run)
	return w, nil
}

// every is how often to look without being told. It is asked after each look: the
// directory may be mounted later.
func (w *Watcher) every() time.Duration {
	switch {
	case w.rescan > 0:
		return w.rescan
	case w.remote(w.dir):
		return rescanRemote
	default:
		return rescanEvery
	}
}

// Candidates returns the drops as they are found.
func (w *Watcher) Candidates() <-chan Candidate { return w.c }

// Close ends the watching.
func (w *Watcher) Close() error {
	close(w.done)
	w.wg.Wait()
	return w.notify.Close()
}

func (w *Watcher) run() {
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	for {
		w.scan()
		tick.Reset(w.every())
		for again := false; !again; {
			select {
			case <-w.done:
				return
			case <-tick.C:
				again = true
			case err := <-w.notify.Errors: // ErrEventOverflow among them: look for ourselves
				again = err != nil
			case ev := <-w.notify.Events:
				again = w.matters(ev)
			}
		}
		w.drain()
	}
}

// matters reports whether an event can be about a commit: files that are being
// written are none of our business before their manifest is there.
func (w *Watcher) matters(ev fsnotify.Event) bool {
	return ev.Op&^(fsnotify.Write|fsnotify.Chmod) != 0 || filepath.Base(ev.Name) == delta.ManifestName
}

// drain takes the events that are there already: one look answers them all.
func (w *Watcher) drain() {
	for {
		select {
		case <-w.notify.Events:
		default:
			return
		}
	}
}

// scan reads the directory and reports what is new, changed or gone.
func (w *Watcher) scan() {
	found := make(map[string]mark)
	if root, err := os.OpenRoot(w.dir); err == nil {
		w.look(root, ".", 0, found)
		closeRoot(root)
	}
	for name := range w.known {
		if _, ok := found[name]; !ok {
			delete(w.known, name)
			w.send(Candidate{Drop: name, Gone: true})
		}
	}
	for name, m := range found {
		if w.known[name] != m {
			w.known[name] = m
			w.send(w.drop(name, m))
		}
	}
}

func (w *Watcher) send(c Candidate) {
	select {
	case w.c <- c:
	case <-w.done:
	}
}

// drop describes the drop called name. A volume's generation is pinned: its
// files must not come half from the next one.
func (w *Watcher) drop(name string, m mark) Candidate {
	at := name
	if m.ino != 0 && m.target != "" {
		at = path.Join(name, m.target)
	}
	return Candidate{Drop: name, Dir: filepath.Join(w.dir, at), Open: func() (*os.Root, error) {
		root, err := os.OpenRoot(w.dir)
		if err != nil || at == "." {
			return root, err
		}
		defer closeRoot(root)
		return root.OpenRoot(at)
	}}
}

// look finds the drops at and below dir.
func (w *Watcher) look(root *os.Root, dir string, depth int, found map[string]mark) {
	// Watched before it is read: what comes in between is told. Without a watch,
	// the next rescan finds it.
	_ = w.add(filepath.Join(w.dir, dir))
	at, target := dir, ""
	if t, err := root.Readlink(path.Join(dir, dataLink)); err == nil && filepath.IsLocal(t) {
		at, target = path.Join(dir, t), t
	}
	fi, err := root.Stat(path.Join(at, delta.ManifestName))
	switch {
	case err == nil:
		found[dir] = mark{inode(fi), fi.Size(), fi.ModTime().UnixNano(), target}
		return
	case !errors.Is(err, fs.ErrNotExist):
		found[dir] = mark{target: err.Error()} // opening it will say the same
		return
	case depth == maxDepth:
		return
	}
	f, err := root.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		fi, err := root.Stat(name)
		switch {
		case err == nil && fi.IsDir():
			w.look(root, name, depth+1, found)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			found[name] = mark{target: err.Error()}
		}
	}
}

func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 1
}
