package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func watch(t *testing.T, dir string, rescan time.Duration) *Watcher {
	t.Helper()
	w, err := Watch(dir, rescan)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

// next waits for a candidate and describes it: its name, and the version in its
// manifest or why it has none.
func next(t *testing.T, w *Watcher) string {
	t.Helper()
	select {
	case c := <-w.Candidates():
		if c.Gone {
			return c.Drop + " gone"
		}
		_, mf, _, err := readManifest(c)
		if errors.Is(err, ErrEscapes) {
			return c.Drop + " escapes"
		}
		if err != nil {
			return c.Drop + " " + err.Error()
		}
		return fmt.Sprintf("%s v%d", c.Drop, mf.Version)
	case <-time.After(time.Minute):
		t.Fatal("nothing was found")
		return ""
	}
}

func expect(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	got := make(map[string]bool)
	for range want {
		got[next(t, w)] = true
	}
	for _, s := range want {
		if !got[s] {
			t.Fatalf("found %v, want %q", got, want)
		}
	}
	select {
	case c := <-w.Candidates():
		t.Fatalf("found %+v too", c)
	default:
	}
}

const never = time.Hour // no rescan: what is found was told by the kernel

func TestWatchFindsCommits(t *testing.T) {
	dir := t.TempDir()
	must(t, packInto(filepath.Join(dir, "a"), aligned, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "a v1")
	must(t, packInto(filepath.Join(dir, "b"), aligned, 2, 0, nil)) // its manifest is renamed last
	expect(t, w, "b v2")
	must(t, packInto(filepath.Join(dir, "score", "c"), aligned, 3, 0, nil))
	expect(t, w, "score/c v3")
	must(t, packInto(filepath.Join(dir, ".hidden"), aligned, 4, 0, nil))
	must(t, packInto(filepath.Join(dir, "too", "deep", "down"), aligned, 5, 0, nil))
	must(t, os.RemoveAll(filepath.Join(dir, "a")))
	expect(t, w, "a gone")
	must(t, packInto(filepath.Join(dir, "a"), aligned, 6, 0, nil))
	expect(t, w, "a v6")
}

func TestWatchKubernetesVolume(t *testing.T) {
	dir := t.TempDir()
	must(t, packInto(filepath.Join(dir, "..2026_1"), aligned, 1, 0, nil))
	must(t, os.Symlink("..2026_1", filepath.Join(dir, "..data")))
	for _, f := range []string{"MANIFEST.json", "model.safetensors"} {
		must(t, os.Symlink("..data/"+f, filepath.Join(dir, f)))
	}
	w := watch(t, dir, never)
	c := <-w.Candidates()
	must(t, packInto(filepath.Join(dir, "..2026_2"), aligned, 2, 0, nil))
	must(t, os.Symlink("..2026_2", filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	expect(t, w, ". v2")
	if _, mf, _, err := readManifest(c); err != nil || mf.Version != 1 {
		t.Errorf("the first generation now reads as %v, %v: files of two generations could be mixed", mf, err)
	}
	must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
	if _, _, _, err := readManifest(c); !transient(err) {
		t.Errorf("a generation that is gone: %v", err)
	}
}

func TestWatchLinksOut(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	must(t, packInto(filepath.Join(out, "x"), aligned, 1, 0, nil))
	must(t, os.Symlink(filepath.Join(out, "x"), filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "drop"), 0o755))
	must(t, os.Symlink(filepath.Join(out, "x", "MANIFEST.json"), filepath.Join(dir, "drop", "MANIFEST.json")))
	expect(t, watch(t, dir, never), "link escapes", "drop escapes")
}

func TestWatchDirectoryDeletedAndRecreated(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "models")
	w := watch(t, dir, 20*time.Millisecond) // it is not there yet: only a rescan can find it
	must(t, packInto(filepath.Join(dir, "a"), aligned, 1, 0, nil))
	expect(t, w, "a v1")
	must(t, os.RemoveAll(dir))
	expect(t, w, "a gone")
	must(t, packInto(filepath.Join(dir, "a"), aligned, 2, 0, nil))
	expect(t, w, "a v2")
}

func TestWatchOverflowMeansLooking(t *testing.T) {
	dir := t.TempDir()
	must(t, packInto(filepath.Join(dir, "first"), aligned, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "first v1")
	// Taken away behind its back: the next message can only be the overflow's.
	must(t, w.notify.Remove(dir))
	must(t, packInto(filepath.Join(dir, "a"), aligned, 1, 0, nil))
	w.notify.Errors <- errors.New("queue overflow")
	expect(t, w, "a v1")
}

func TestWatchToServing(t *testing.T) {
	drops := t.TempDir()
	w := watch(t, drops, never)
	r := newRig(t, func(o *Options) { o.Source = w })
	for n := uint64(1); n < 6; n++ {
		must(t, packInto(filepath.Join(drops, fmt.Sprint("v", n)), r.shape, n, n-1, atOnce))
		if ev := r.await(EventActive, n); ev.Took <= 0 || ev.Bytes == 0 {
			t.Errorf("%+v", ev)
		}
		r.serves(n)
	}
	r.close()
}

// A full look at a folder of many drops takes milliseconds: an event has the place
// looked at that it names, whatever the folder holds.
func TestWatchLooksWhereItIsTold(t *testing.T) {
	dir := t.TempDir()
	must(t, packInto(filepath.Join(dir, "score", "a"), aligned, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "score/a v1")
	for name, want := range map[string]string{
		"score/b":                "score/b",
		"score/b/MANIFEST.json":  "score/b",
		"score/b/blobs/sha256/x": "score/b",
		"score/MANIFEST.json":    "score",
		"score/..data":           "score",
		"score":                  "score",
		"index.json":             ".",
		"MANIFEST.json":          ".",
		"..data":                 ".",
		".":                      ".",
		"..":                     ".",
	} {
		if got := w.place(filepath.Join(dir, name)); got != want {
			t.Errorf("an event of %s is about %s, want %s", name, got, want)
		}
	}

	// What is in a drop is none, though an event is about it; when its manifest is
	// gone, it is.
	must(t, packInto(filepath.Join(dir, "score", "inner"), aligned, 2, 0, nil))
	expect(t, w, "score/inner v2")
	must(t, packInto(filepath.Join(dir, "score"), aligned, 3, 0, nil))
	expect(t, w, "score v3", "score/a gone", "score/inner gone")
	must(t, os.Remove(filepath.Join(dir, "score", "inner", "MANIFEST.json")))
	must(t, packInto(filepath.Join(dir, "score", "later"), aligned, 4, 0, nil))
	must(t, os.Remove(filepath.Join(dir, "score", "MANIFEST.json")))
	expect(t, w, "score gone", "score/a v1", "score/later v4")
}

// A folder is known to the kernel by what it is, and to us by what it was called when
// it came: what happens in it under its new name is found all the same.
func TestWatchFolderThatIsRenamed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "score", "next"), 0o755))
	must(t, packInto(filepath.Join(dir, "score", "a"), aligned, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "score/a v1")
	must(t, os.Rename(filepath.Join(dir, "score"), filepath.Join(dir, "rank")))
	expect(t, w, "score/a gone", "rank/a v1")
	must(t, packInto(filepath.Join(dir, "rank", "next"), aligned, 2, 0, nil))
	expect(t, w, "rank/next v2")
	must(t, packInto(filepath.Join(dir, "rank", "b"), aligned, 3, 0, nil))
	expect(t, w, "rank/b v3")
}

// fsnotify tells with its lock held that it cannot give up a folder which is moved
// away and deleted: nobody may wait for that lock before it is told.
func TestWatchFolderThatIsMovedAwayAndDeleted(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	must(t, os.Mkdir(filepath.Join(dir, "score"), 0o755))
	must(t, packInto(filepath.Join(dir, "first"), aligned, 1, 0, nil))
	w := watch(t, dir, never)
	expect(t, w, "first v1")
	for n := uint64(1); n <= 20; n++ {
		name := fmt.Sprint("v", n)
		must(t, packInto(filepath.Join(dir, name), aligned, n, 0, nil))
		must(t, os.Rename(filepath.Join(dir, "score"), out)) // not looked at yet: its drop waits to be taken
		must(t, os.Remove(out))
		must(t, os.Mkdir(filepath.Join(dir, "score"), 0o755))
		expect(t, w, fmt.Sprint(name, " v", n))
	}
	must(t, packInto(filepath.Join(dir, "score", "last"), aligned, 21, 0, nil))
	expect(t, w, "score/last v21")
}

// What an event names may be something else by the time that it is looked at.
func TestWatchPlaceThatIsNoFolderAnyMore(t *testing.T) {
	w := &Watcher{dir: t.TempDir(), add: func(string) error { return nil }, c: make(chan Candidate, 2), known: make(map[string]mark)}
	must(t, os.WriteFile(filepath.Join(w.dir, "score"), nil, 0o600))
	w.scan("score/a")
	if len(w.known) != 0 {
		t.Errorf("a file is taken for drops: %v", w.known)
	}
}
