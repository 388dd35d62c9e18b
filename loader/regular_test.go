package loader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
)

// A file of a drop may become a pipe between two looks at it: opening one that nobody
// writes to would hold a worker for good.
func TestPipeInPlaceOfAFile(t *testing.T) {
	whilePipesCome(t, "file", func(root *os.Root) error {
		f, fi, err := openRegular(root, "file")
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			t.Errorf("opened %v", fi.Mode())
		}
		return f.Close()
	})
}

// So may one of an image layout.
func TestPipeInPlaceOfALayout(t *testing.T) {
	whilePipesCome(t, oci.LayoutName, func(root *os.Root) error {
		_, err := readLayout(root)
		if err == nil || strings.HasPrefix(err.Error(), "oci-layout: unexpected end of JSON input") {
			return nil // it was read
		}
		return err
	})
}

// whilePipesCome calls open while name is now a file and now a pipe, until it saw both
// and one that changed in between.
func whilePipesCome(t *testing.T, name string, open func(root *os.Root) error) {
	t.Helper()
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, name), filepath.Join(dir, "pipe")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, unix.Mkfifo(pipe, 0o600))
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() { // the two change places
			err := errors.Join(os.Rename(file, file+".away"), os.Rename(pipe, file), os.Rename(file, pipe), os.Rename(file+".away", file))
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	opened, refused := 0, 0
	for late := false; !t.Failed() && (opened == 0 || refused == 0 || !late); {
		err := open(root)
		switch {
		case err == nil:
			opened++
		case strings.Contains(err.Error(), "is no regular file any more"):
			late = true
		default:
			refused++
		}
	}
	over.Store(true)
	<-done
}

// A file that grows while it is copied takes no more of the store than it was let in
// for.
func TestFileThatGrowsWhileItIsCopied(t *testing.T) {
	s, err := openStore(t.TempDir(), osVolume())
	must(t, err)
	defer s.close()
	tmp, err := s.temp("drop")
	must(t, err)
	name := filepath.Join(t.TempDir(), "model.safetensors")
	must(t, os.WriteFile(name, make([]byte, 1<<20), 0o600))
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	in := &ingest{store: s, mf: new(delta.Manifest)}
	use := delta.File{Path: "model.safetensors", Role: delta.RoleFull, Size: 4096} // when it was looked at
	if _, err := in.copy(t.Context(), f, use, new(image), tmp); !errors.Is(err, ErrSize) || !strings.Contains(err.Error(), "rename MANIFEST.json into place once more") {
		t.Errorf("%v, want %v", err, ErrSize)
	}
	fi, err := os.Stat(filepath.Join(tmp, blobFile))
	must(t, err)
	if fi.Size() > use.Size+1 {
		t.Errorf("%d bytes were copied of a file of %d", fi.Size(), use.Size)
	}
}
