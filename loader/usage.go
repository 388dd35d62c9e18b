package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrQuota is why a drop is refused that would take the store over its quota.
var ErrQuota = errors.New("over the store's quota")

// usage is what a store's versions take on disk, in bytes of files, and what they
// may. It is safe for concurrent use.
type usage struct {
	mu       sync.Mutex
	limit    int64                       // of all models; 0: none
	limits   map[string]int64            // by model
	held     map[string]map[uint64]int64 // by model and version
	reserved map[string]int64            // for versions that are being brought in, by model
}

// set notes what a version takes.
func (u *usage) set(model string, number uint64, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held == nil {
		u.held = make(map[string]map[uint64]int64)
	}
	if u.held[model] == nil {
		u.held[model] = make(map[uint64]int64)
	}
	u.held[model][number] = n
}

// forget notes that a version is gone.
func (u *usage) forget(model string, number uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.held[model], number)
}

// of returns what a model takes, and may; u.mu is held.
func (u *usage) of(model string) (n, limit int64) {
	n = u.reserved[model]
	for _, v := range u.held[model] {
		n += v
	}
	return n, u.limits[model]
}

// all returns what all models take together; u.mu is held.
func (u *usage) all() (n int64) {
	for model := range u.held {
		m, _ := u.of(model)
		n += m
	}
	for model, m := range u.reserved {
		if _, ok := u.held[model]; !ok {
			n += m
		}
	}
	return n
}

// reserve takes n bytes of the quota for a version of a model until release is
// called, or says what stands against it.
func (u *usage) reserve(model string, number uint64, n int64) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	mine, most := u.of(model)
	over := func(who string, have, limit int64) error {
		return fmt.Errorf("%s@%d takes %d bytes, %s %d of the %d that it may: %w by %d bytes; raise it, or make room: roll a canary back, ship a delta in place of a full file, take another model's drops away (%s)",
			model, number, n, who, have, limit, ErrQuota, have+n-limit, u.list())
	}
	if most > 0 && mine+n > most {
		return nil, over("the model's versions take", mine, most)
	}
	if all := u.all(); u.limit > 0 && all+n > u.limit {
		return nil, over("the store holds", all, u.limit)
	}
	if u.reserved == nil {
		u.reserved = make(map[string]int64)
	}
	u.reserved[model] += n
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.reserved[model] -= n; u.reserved[model] == 0 {
			delete(u.reserved, model)
		}
	}), nil
}

// list says what each model takes, for errors; u.mu is held.
func (u *usage) list() string {
	var parts []string
	for _, model := range slices.Sorted(maps.Keys(u.held)) {
		if n, _ := u.of(model); n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", model, n))
		}
	}
	if parts == nil {
		return "it is empty"
	}
	return strings.Join(parts, ", ")
}

// measure notes what a version's folder takes on disk.
func (s *store) measure(model string, number uint64) {
	s.usage.set(model, number, size(s.version(model, number)))
}

// size returns the bytes of all files below a directory, as far as they can be
// seen.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if fi, err := e.Info(); err == nil { // else it is gone meanwhile
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}

// Disk is what a model's versions take in the store, in bytes of files.
type Disk struct {
	Used  int64
	Limit int64 // 0: none of its own
}

// Disk returns what a model takes in the store, and what all models do. Those
// that are being brought in count with what was reserved for them.
func (l *Loader) Disk(model string) (own, store Disk) {
	u := &l.store.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	own.Used, own.Limit = u.of(model)
	return own, Disk{u.all(), u.limit}
}
