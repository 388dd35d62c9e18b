package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
)

// The store's layout:
//
//	lock                      held by the process that owns the store
//	state.json                which versions are active, standby and refused
//	tmp/                      drops being read; emptied at start
//	models/MODEL/NUMBER/      one version: manifest.json, origin.json, blob, leaves, durable
//
// Every step that matters is one rename: of a version's folder out of tmp, and of
// state.json. A folder that state.json does not need is a version that was not
// decided yet, or rubbish; start says which.
const (
	manifestFile = "manifest.json"
	originFile   = "origin.json"
	blobFile     = "blob"
	leavesFile   = "leaves"
	durableFile  = "durable" // there when the rest is on disk for good
	stateFile    = "state.json"
	stateFormat  = 1
)

// store is the private directory of versions. It belongs to the loader's
// goroutine and the worker, which never use it for the same version at once.
type store struct {
	dir  string
	lock *os.File

	// create opens a new file; tests put full disks behind it.
	create func(name string) (file, error)
}

// file is what the store writes to.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// origin is where a version came from.
type origin struct {
	Drop     string     `json:"drop"`
	Dropped  time.Time  `json:"dropped"`
	Role     delta.Role `json:"role"`               // which of the manifest's files is used
	InPlace  string     `json:"in_place,omitempty"` // that file, when it was left where it is
	Ingested int64      `json:"ingested"`           // bytes

	restored bool // read back at start
}

// record is state.json.
type record struct {
	Format int                     `json:"format"`
	Models map[string]*modelRecord `json:"models"`
}

type modelRecord struct {
	Active  uint64             `json:"active,omitempty"`
	Standby uint64             `json:"standby,omitempty"`
	Refused map[uint64]Refusal `json:"refused,omitempty"`
}

// Refusal says why a version was rolled back and will not be tried again.
type Refusal struct {
	Root   delta.Root `json:"root"`
	Reason string     `json:"reason"`
	At     time.Time  `json:"at"`
}

// openStore takes the store at dir, which is made when missing.
func openStore(dir string) (*store, error) {
	s := &store{dir: dir, create: func(name string) (file, error) { return os.Create(name) }}
	if err := os.MkdirAll(filepath.Join(dir, "models"), 0o755); err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("loader: store %s is used by another process: give each process a store of its own (%w)", dir, err)
	}
	s.lock = lock
	err = errors.Join(os.RemoveAll(s.path("tmp")), os.Mkdir(s.path("tmp"), 0o755), os.RemoveAll(s.path(stateFile+".new")))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	return s, nil
}

func (s *store) close() { s.lock.Close() }

func (s *store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *store) version(model string, number uint64) string {
	return s.path("models", model, strconv.FormatUint(number, 10))
}

// load reads state.json; a store without one is empty.
func (s *store) load() (*record, error) {
	r := &record{Format: stateFormat, Models: make(map[string]*modelRecord)}
	b, err := os.ReadFile(s.path(stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("loader: %s: %w; move it away to start with an empty store", s.path(stateFile), err)
	}
	for name, m := range r.Models {
		if m == nil {
			return nil, fmt.Errorf("loader: %s: model %q is null; move it away to start with an empty store", s.path(stateFile), name)
		}
	}
	if r.Format != stateFormat {
		return nil, fmt.Errorf("loader: %s: format %d, this program reads %d", s.path(stateFile), r.Format, stateFormat)
	}
	return r, nil
}

// save replaces state.json in one step. The new one is on disk before it takes
// the name: a refusal must outlive a power cut, and a torn file would stop the
// next start.
func (s *store) save(r *record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	next := s.path(stateFile + ".new")
	f, err := s.create(next)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(next, s.path(stateFile))
}

// write makes a file with these bytes.
func (s *store) write(name string, b []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// writeJSON makes a file with v's JSON.
func (s *store) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(name, append(b, '\n'))
}

// commit moves a version's finished folder to its place.
func (s *store) commit(tmp, model string, number uint64) (string, error) {
	dir := s.version(model, number)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil { // of a number that was freed
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// remove takes a version away: out of its place in one step, then its bytes. It
// makes nothing new: a full disk may have no room for it, and this is what makes
// room.
func (s *store) remove(model string, number uint64) error {
	gone := s.path("tmp", fmt.Sprintf("gone-%s-%d", model, number))
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	err := os.Rename(s.version(model, number), gone)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(gone))
}

// models lists the models that have a folder.
func (s *store) models() (out []string, err error) {
	list, err := os.ReadDir(s.path("models"))
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out, err
}

// numbers lists the versions of a model that have a folder, ascending.
func (s *store) numbers(model string) ([]uint64, error) {
	list, err := os.ReadDir(s.path("models", model))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []uint64
	for _, e := range list {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil { // anything else is not ours
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// leaves reads an image's leaf hashes.
func (s *store) leaves(im *image) (delta.Leaves, error) {
	b, err := os.ReadFile(filepath.Join(im.dir, leavesFile))
	return delta.Leaves(b), err
}

// sync brings a version's folder to disk for good and marks it so.
func (s *store) sync(im *image) error {
	for _, name := range []string{manifestFile, originFile, blobFile, leavesFile, "."} {
		err := syncPath(filepath.Join(im.dir, name))
		if name == blobFile && errors.Is(err, os.ErrNotExist) {
			continue // left in place
		}
		if err != nil {
			return err
		}
	}
	if err := s.write(filepath.Join(im.dir, durableFile), nil); err != nil {
		return err
	}
	for _, dir := range []string{im.dir, filepath.Dir(im.dir), s.path("models"), s.dir} {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	return syncPath(s.path(stateFile))
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// free returns the bytes that the store's disk has left for us.
func (s *store) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
