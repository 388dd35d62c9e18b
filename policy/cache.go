package policy

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/quadnine/quadnine"
)

// Cache holds whole answers for the time when there are no others: degrade
// mode. It stores any 200 that Storable allows, whatever Cache-Control says, so
// it must only be asked on a degrade decision.
//
// It is safe for concurrent use, starts no goroutine and reads no clock.
type Cache struct {
	cfg   CacheConfig
	seeds [2]maphash.Seed
	keyed []string // request fields that are part of the key: selecting, then identity
	// lengths are those of the names in keyed: most fields need no second look.
	lengths [maxIdentityName]bool
	store   *otter.Cache[[2]uint64, *Stored]
	closed  atomic.Bool

	hits, misses, stores atomic.Uint64
}

// NewCache returns an empty cache. The error is cfg.Validate's.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.IdentityHeaders = slices.Clone(cfg.IdentityHeaders)
	store, err := otter.New(&otter.Options[[2]uint64, *Stored]{
		MaximumWeight: uint64(cfg.MaxBytes),
		Weigher:       func(_ [2]uint64, s *Stored) uint32 { return s.weight },
		// Books are kept by whoever calls: no goroutine, and none to wait for
		// at Close. There is no expiry in the store, which would need a clock
		// and a goroutine of its own: Get and Expire compare ages.
		Executor: func(f func()) { f() },
	})
	if err != nil {
		return nil, fmt.Errorf("policy: make a cache of %d bytes: %w", cfg.MaxBytes, err)
	}
	c := &Cache{
		cfg:   cfg,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		keyed: slices.Concat(selecting[:], cfg.IdentityHeaders),
		store: store,
	}
	for _, name := range c.keyed {
		c.lengths[len(name)] = true
	}
	return c, nil
}

// Config returns the configuration.
func (c *Cache) Config() CacheConfig { return c.cfg }

// Put stores a copy of a whole answer for which Storable said yes, in place of
// an older one, and reports whether it did: not when the content is longer than
// MaxBodyBytes or than its own Content-Length says, nor after Close. The
// caller vouches that the content is complete and that no trailers followed.
func (c *Cache) Put(k CacheKey, status int, resp Fields, body []byte, now int64) bool {
	if len(body) > c.cfg.MaxBodyBytes || c.closed.Load() {
		return false
	}
	if l := resp.Get("content-length"); l != nil && string(l) != strconv.Itoa(len(body)) {
		return false
	}
	c.store.Set(k.hash, newStored(k, status, resp, body, now))
	if c.closed.Load() {
		c.store.InvalidateAll() // Close came in between
		return false
	}
	c.stores.Add(1)
	return true
}

// Get returns the answer stored under k and its age, unless it is older than
// TTL. It allocates nothing.
func (c *Cache) Get(k CacheKey, now int64) (s *Stored, age time.Duration, ok bool) {
	s, ok = c.store.GetIfPresent(k.hash)
	if ok {
		age = time.Duration(max(0, now-s.StoredAt))
		ok = age <= c.cfg.TTL && bytes.Equal(s.canon, k.canon)
	}
	if !ok {
		c.misses.Add(1)
		return nil, 0, false
	}
	c.hits.Add(1)
	return s, age, true
}

// Newer reports whether the answer stored under k is younger than age: then
// storing another one would cost more than it is worth. It counts no hit or miss
// and allocates nothing.
func (c *Cache) Newer(k CacheKey, age time.Duration, now int64) bool {
	s, ok := c.store.GetIfPresent(k.hash)
	return ok && time.Duration(now-s.StoredAt) < age && bytes.Equal(s.canon, k.canon)
}

// Expire drops every answer older than TTL and returns how many. Nothing
// depends on it but memory: calling it every TTL or so keeps an idle cache small.
func (c *Cache) Expire(now int64) (n int) {
	for hash, s := range c.store.All() {
		if time.Duration(now-s.StoredAt) <= c.cfg.TTL {
			continue
		}
		c.store.ComputeIfPresent(hash, func(old *Stored) (*Stored, otter.ComputeOp) {
			if old != s {
				return old, otter.CancelOp // stored anew meanwhile
			}
			n++
			return nil, otter.InvalidateOp
		})
	}
	return n
}

// CacheStats are counts since the start, except Entries and Bytes.
type CacheStats struct {
	Entries int
	Bytes   int64 // with header fields, keys and bookkeeping
	Hits    uint64
	Misses  uint64
	Stores  uint64
}

// Stats returns the counts. It takes the lock of the cache's books: for admin
// pages and metrics.
func (c *Cache) Stats() CacheStats {
	c.store.CleanUp()
	return CacheStats{
		Entries: c.store.EstimatedSize(), Bytes: int64(c.store.WeightedSize()),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Stores: c.stores.Load(),
	}
}

// ForKey returns how many usable answers are stored for k, all queries and
// identities together, and the age of the newest. It reads the whole cache: for
// admin pages.
func (c *Cache) ForKey(k quadnine.Key, now int64) (n int, newest time.Duration) {
	for s := range c.store.Values() {
		age := time.Duration(max(0, now-s.StoredAt))
		if s.key != k || age > c.cfg.TTL {
			continue
		}
		if n == 0 || age < newest {
			newest = age
		}
		n++
	}
	return n, newest
}

// Close empties the cache; it stays usable and empty. No goroutine has to end.
func (c *Cache) Close() {
	c.closed.Store(true)
	c.store.InvalidateAll()
}
