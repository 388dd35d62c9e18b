package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
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
// A drop is a directory with a MANIFEST.json, or with an oci-layout and an
// index.json: the watched one, one in it, or one in that. Names that begin with a dot are passed over.
type Watcher struct {
	dir    string
	rescan time.Duration // 0: by the file system
	notify *fsnotify.Watcher
	add    func(dir string) error // watches a directory; tests have one that tells nothing
	remote func(dir string) bool  // whether others write there unheard
	c      chan Candidate
	done   chan struct{}
	lost   chan struct{} // fsnotify has missed something
	wg     sync.WaitGroup
	heard  sync.WaitGroup // until nothing is told any more

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
	w := &Watcher{dir: abs, rescan: max(rescan, 0), notify: n, add: n.Add, remote: remote}
	w.start()
	return w, nil
}

func (w *Watcher) start() {
	w.c, w.done, w.lost = make(chan Candidate), make(chan struct{}), make(chan struct{}, 1)
	w.known = make(map[string]mark)
	w.heard.Go(w.listen)
	w.wg.Go(w.run)
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
	err := w.notify.Close()
	w.heard.Wait()
	return err
}

// listen takes errors as they come, until notify is closed: fsnotify tells some of
// them with its lock held, and who adds a folder waits for that.
func (w *Watcher) listen() {
	for range w.notify.Errors {
		select {
		case w.lost <- struct{}{}:
		default: // it will look for itself already
		}
	}
}

// run looks at what events name, and at all of the directory now and then. A folder
// of thousands of drops takes milliseconds to read, so it runs at the lowest priority,
// as the workers do.
func (w *Watcher) run() {
	Lowest()
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	for {
		w.scan(".")
		tick.Reset(w.every())
		for all := false; !all; {
			select {
			case <-w.done:
				return
			case <-tick.C:
				all = true
			case <-w.lost: // ErrEventOverflow, most of all: look for ourselves
				all = true
			case ev := <-w.notify.Events:
				all = w.told(ev)
			}
		}
	}
}

// told looks at what an event, and those that are there already, are about. It
// reports whether that is all of the directory.
func (w *Watcher) told(ev fsnotify.Event) (all bool) {
	places := make(map[string]bool)
	for more := true; more; {
		if w.matters(ev) {
			places[w.place(ev.Name)] = true
		}
		if ev.Has(fsnotify.Rename) {
			w.forget(ev.Name)
		}
		select {
		case ev = <-w.notify.Events:
		default:
			more = false
		}
	}
	if places["."] {
		return true
	}
	for _, dir := range slices.Sorted(maps.Keys(places)) { // what is above comes first: it may turn out to be a drop
		w.scan(dir)
	}
	return false
}

// forget ends the watching of a folder that was renamed and of those in it, as events
// would go on to have the names that they were added by. Its new name is told next.
func (w *Watcher) forget(name string) {
	for _, dir := range w.notify.WatchList() {
		if dir == name || strings.HasPrefix(dir, name+string(filepath.Separator)) {
			_ = w.notify.Remove(dir) // one that is gone is not watched either
		}
	}
}

// matters reports whether an event can be about a commit: files that are being
// written are none of our business before their manifest is there.
func (w *Watcher) matters(ev fsnotify.Event) bool {
	return ev.Op&^(fsnotify.Write|fsnotify.Chmod) != 0 || commits(filepath.Base(ev.Name))
}

// commits reports whether an entry of that name makes a directory a drop.
func commits(name string) bool {
	return name == delta.ManifestName || name == dataLink || name == oci.IndexName || name == oci.LayoutName
}

// place returns the directory, below the one that is watched, that an event can have
// changed the drops of.
func (w *Watcher) place(name string) string {
	rel, err := filepath.Rel(w.dir, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "." // the directory itself came or went
	}
	if commits(filepath.Base(rel)) {
		rel = filepath.Dir(rel)
	}
	parts := strings.Split(filepath.ToSlash(rel), "/")
	return path.Join(parts[:min(len(parts), maxDepth)]...)
}

// within reports whether the drop called name is dir, or lies in it.
func within(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir+"/")
}

// scan reads a directory, the watched one or one in it, and reports what is new,
// changed or gone there.
func (w *Watcher) scan(dir string) {
	found := make(map[string]mark)
	if root, err := os.OpenRoot(w.dir); err == nil {
		dir = w.top(root, dir)
		w.enter(root, dir, depthOf(dir), found)
		closeRoot(root)
	}
	for name := range w.known {
		if _, ok := found[name]; !ok && within(name, dir) {
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

// depthOf returns how many steps dir lies below the watched directory.
func depthOf(dir string) int {
	if dir == "." {
		return 0
	}
	return 1 + strings.Count(dir, "/")
}

// top returns dir, or the drop that it lies in: what a drop holds is no drop.
func (w *Watcher) top(root *os.Root, dir string) string {
	above := "."
	for step := range strings.SplitSeq(dir, "/") {
		if _, ok := commit(root, above); ok {
			return above
		}
		above = path.Join(above, step)
	}
	return dir
}

// commit returns the mark of the drop that dir is, if it is one.
func commit(root *os.Root, dir string) (m mark, ok bool) {
	at, target := dir, ""
	if t, err := root.Readlink(path.Join(dir, dataLink)); err == nil && filepath.IsLocal(t) {
		at, target = path.Join(dir, t), t
	}
	fi, err := root.Stat(path.Join(at, delta.ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = root.Stat(path.Join(at, oci.LayoutName)); err == nil {
			fi, err = root.Stat(path.Join(at, oci.IndexName))
		}
	}
	switch {
	case err == nil:
		return mark{inode(fi), fi.Size(), fi.ModTime().UnixNano(), target}, true
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return mark{target: err.Error()}, true // opening it will say the same
	}
	return mark{}, false
}

// look finds the drops at and below a directory.
func (w *Watcher) look(root *os.Root, dir string, depth int, found map[string]mark) {
	// Watched before it is read: what comes in between is told. Without a watch,
	// the next rescan finds it.
	_ = w.add(filepath.Join(w.dir, dir))
	m, ok := commit(root, dir)
	if ok {
		found[dir] = m
	}
	if ok || depth == maxDepth {
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
		w.enter(root, path.Join(dir, e.Name()), depth+1, found)
	}
}

// enter looks at what may be a directory.
func (w *Watcher) enter(root *os.Root, name string, depth int, found map[string]mark) {
	if depth > 0 && strings.HasPrefix(path.Base(name), ".") {
		return
	}
	fi, err := root.Stat(name)
	switch {
	case err == nil && fi.IsDir():
		w.look(root, name, depth, found)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		found[name] = mark{target: err.Error()}
	}
}

func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 1
}
