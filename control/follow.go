package control

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	quietFor = 100 * time.Millisecond // without another change, before a change is read
	quietMax = time.Second            // of changes without a pause
	lookAt   = 5 * time.Second        // how often the directory is looked at when nothing was told
)

// Follow reloads the directory when it changes, until ctx ends. What the kernel
// tells of changes is a hint only: the directory is looked at every 5 s, too.
func (s *Server) Follow(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("control: watch %s: %w", s.dir, err)
	}
	defer func() { _ = w.Close() }()
	tick := time.NewTicker(lookAt)
	defer tick.Stop()
	seen := look(w, s.dir)
	_ = s.Reload(ctx) // what came before the watch; an error is kept, and told
	s.tell()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case err := <-w.Errors:
			if errors.Is(err, fsnotify.ErrClosed) {
				return nil
			}
		case <-w.Events:
			pause(ctx, w)
		}
		now := look(w, s.dir)
		if now == seen {
			continue
		}
		seen = now
		_ = s.Reload(ctx)
		s.tell()
	}
}

// pause waits until the changes have come to an end.
func pause(ctx context.Context, w *fsnotify.Watcher) {
	most := time.NewTimer(quietMax)
	defer most.Stop()
	for {
		quiet := time.NewTimer(quietFor)
		select {
		case <-w.Events:
			quiet.Stop()
		case <-quiet.C:
			return
		case <-most.C:
			quiet.Stop()
			return
		case <-ctx.Done():
			quiet.Stop()
			return
		}
	}
}

// tell logs what became of the last reload.
func (s *Server) tell() {
	s.mu.Lock()
	problem, set := s.problem, s.set
	s.mu.Unlock()
	if problem != nil {
		s.log.Error("the directory is not valid: what was served before still is", "dir", s.dir, "err", problem)
		return
	}
	for _, w := range set.Warnings {
		s.log.Warn("check", "what", w)
	}
	s.log.Info("serving", "dir", s.dir, "resources", set.Len(), "groups", len(set.Groups)-1, "warnings", len(set.Warnings))
}

var lookSeed = maphash.MakeSeed()

// look watches dir and what is below it, and returns a fingerprint of all files
// that may hold resources.
func look(w *fsnotify.Watcher, dir string) uint64 {
	var h maphash.Hash
	h.SetSeed(lookSeed)
	// Without a watch, the next look finds it.
	_ = w.Add(dir)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&h, path, err)
			return nil
		}
		if d.IsDir() && path != dir {
			_ = w.Add(path)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			fmt.Fprintln(&h, path, target)
		}
		if info, err := os.Stat(path); err == nil && (isResourceFile(path) || strings.HasPrefix(d.Name(), "..") || info.IsDir()) {
			if info.IsDir() {
				fmt.Fprintln(&h, path)
			} else {
				fmt.Fprintln(&h, path, info.Size(), info.ModTime().UnixNano())
			}
		}
		return nil
	})
	return h.Sum64()
}
