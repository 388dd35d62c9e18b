package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
)

// The store's layout:
//
//	lock                      held by the process that owns the store
//	state.json                which versions are active, standby and refused
//	tmp/                      drops being read; emptied at start
//	models/MODEL/NUMBER/      one version: manifest.json, origin.json, blob, leaves, durable; model.sig if it was taken for that
//	models/MODEL/NUMBER/flat/ the same files once more, when its chain was compacted: these are used
//
// Every step that matters is one rename: of a version's folder out of tmp or back
// into it, of flat, and of state.json. A folder that state.json does not need is a
// version that was not decided yet, or rubbish; start says which. What has to be
// synced before what stands in decision record 25.
const (
	manifestFile = "manifest.json"
	originFile   = "origin.json"
	blobFile     = "blob"
	patchFile    = "patch" // what a blob was made from, if it came as a patch
	leavesFile   = "leaves"
	durableFile  = "durable" // there when the rest, and what the version is made of, is on disk for good
	flatDir      = "flat"

	stateFile   = "state.json"
	stateFormat = 1
)

// store is the private directory of versions. It belongs to the loader's
// goroutine and the workers, which never use it for the same version at once.
type store struct {
	volume

	dir   string
	lock  *os.File
	usage usage
	temps atomic.Uint64 // names in tmp so far
}

// origin is where a version came from.
type origin struct {
	Drop     string     `json:"drop"`
	Dropped  time.Time  `json:"dropped"`
	Role     delta.Role `json:"role"`                // which of the manifest's files is used
	Patch    delta.Role `json:"patch,omitempty"`     // a patch that came instead: Role says what was made of it
	InPlace  string     `json:"in_place,omitempty"`  // that file, when it was left where it is
	Flat     bool       `json:"flat,omitempty"`      // no file of the drop: made of one, see compact.go
	Base     uint64     `json:"base,omitempty"`      // of a flat delta: the version that it is made for
	Ingested int64      `json:"ingested"`            // bytes
	BaseOnly bool       `json:"base_only,omitempty"` // it was brought in for a version above it
	Bundle   bool       `json:"bundle,omitempty"`    // it was taken for the signature in its model.sig
	Image    string     `json:"image,omitempty"`     // digest of the image manifest, when it came as an image layout

	restored bool // read back at start
}

// record is state.json.
type record struct {
	Retain  bool                    `json:"retain,omitempty"` // versions out of use stay until they are moved, see Options.Retain
	Format  int                     `json:"format"`
	Models  map[string]*modelRecord `json:"models"`
	Blocked []Block                 `json:"blocked,omitempty"`
}

type modelRecord struct {
	Active  uint64             `json:"active,omitempty"`
	Standby uint64             `json:"standby,omitempty"`
	Floor   uint64             `json:"floor,omitempty"` // see model.floor
	Refused map[uint64]Refusal `json:"refused,omitempty"`

	Shadow     *shadowRecord `json:"shadow,omitempty"`
	Experiment *Experiment   `json:"experiment,omitempty"`
}

// Refusal says why a version was rolled back and will not be tried again.
type Refusal struct {
	Root   delta.Root `json:"root"`
	Reason string     `json:"reason"`
	At     time.Time  `json:"at"`
}

// openStore takes the store at dir, which is made when missing.
func openStore(dir string, v volume) (*store, error) {
	s := &store{volume: v, dir: dir}
	if err := s.mkdirAll(s.path("models")); err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	if err := s.take(); err != nil {
		return nil, err
	}
	err := errors.Join(s.removeAll(s.path("tmp")), s.mkdirAll(s.path("tmp")), s.removeAll(s.path(stateFile+".new")))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	return s, nil
}

// take makes this process the one that the store belongs to.
func (s *store) take() error {
	lock, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("loader: store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("loader: store %s is %w: give each process a store of its own (%w)", s.dir, ErrInUse, err)
	}
	s.lock = lock
	return nil
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
// the name, and the name before save returns: a refusal must outlive a power cut,
// and a torn file would stop the next start.
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
	if err := s.rename(next, s.path(stateFile)); err != nil {
		return err
	}
	return s.syncPath(s.dir)
}

// temp makes a directory in tmp.
func (s *store) temp(kind string) (string, error) {
	dir := s.path("tmp", fmt.Sprintf("%s-%d", kind, s.temps.Add(1)))
	return dir, s.mkdirAll(dir)
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
	if err := s.mkdirAll(filepath.Dir(dir)); err != nil {
		return "", err
	}
	if err := s.remove(model, number); err != nil { // of a number that was freed
		return "", err
	}
	if err := s.rename(tmp, dir); err != nil {
		return "", err
	}
	s.measure(model, number)
	return dir, nil
}

// remove takes a version away: out of its place in one step, then its bytes. The
// step is on disk before the first byte goes: a power cut must not bring back a
// part of a version that is marked durable. It makes nothing new: a full disk may
// have no room for it, and this is what makes room.
func (s *store) remove(model string, number uint64) error {
	gone := s.path("tmp", fmt.Sprintf("gone-%s-%d", model, number))
	if err := s.removeAll(gone); err != nil {
		return err
	}
	dir := s.version(model, number)
	err := s.rename(dir, gone)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(s.syncPath(filepath.Dir(dir)), s.syncPath(s.path("tmp")))
	}
	if err != nil {
		return err
	}
	s.usage.forget(model, number)
	return s.removeAll(gone)
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

// sync brings a version and all that it is made of to disk for good, lowest
// first, and marks it so: what is marked can be relied on after a power cut.
func (s *store) sync(im *image) error {
	if im.durable.Load() {
		return nil
	}
	if im.base != nil {
		if err := s.sync(im.base); err != nil {
			return err
		}
	}
	names := []string{manifestFile, originFile, blobFile, leavesFile}
	if im.origin.Patch != "" && !im.origin.Flat {
		names = append(names, patchFile)
	}
	if im.origin.Bundle && !im.origin.Flat {
		names = append(names, modelsign.FileName)
	}
	for _, name := range names {
		err := s.syncPath(filepath.Join(im.dir, name))
		if name == blobFile && im.origin.InPlace != "" && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
	}
	if err := s.syncWay(im.dir); err != nil {
		return err
	}
	return s.mark(im)
}

// syncWay syncs the names on the way from dir up to the store, and those in tmp:
// where dir came from.
func (s *store) syncWay(dir string) error {
	for ; dir != s.dir; dir = filepath.Dir(dir) {
		if err := s.syncPath(dir); err != nil {
			return err
		}
	}
	return errors.Join(s.syncPath(s.dir), s.syncPath(s.path("tmp")))
}

// mark marks a version whose bytes are on disk for good.
func (s *store) mark(im *image) error {
	if err := s.write(filepath.Join(im.dir, durableFile), nil); err != nil {
		return err
	}
	if err := s.syncPath(im.dir); err != nil {
		return err
	}
	im.durable.Store(true)
	return nil
}

// free returns the bytes that the store's disk has left for us.
func (s *store) free() (int64, error) { return FreeDisk(s.dir) }
