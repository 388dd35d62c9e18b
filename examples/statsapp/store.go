package statsapp

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/axiomhq/hyperloglog"
)

// ErrFull is returned when a bound of Options keeps an event out.
var ErrFull = errors.New("tenant is full")

// bucketMS is the width of a bucket in milliseconds. A query reads whole buckets
// from their sums and only the two at its ends event by event.
const bucketMS = int64(time.Hour / time.Millisecond)

type store struct {
	opt Options

	mu      sync.RWMutex
	tenants map[string]*tenant // guarded by mu; entries are never removed
}

func newStore(opt Options) *store {
	return &store{opt: opt, tenants: map[string]*tenant{}}
}

// find returns the tenant's data, or nil.
func (s *store) find(name string) *tenant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tenants[name]
}

func (s *store) open(name string) (*tenant, error) {
	if t := s.find(name); t != nil {
		return t, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tenants[name]; t != nil {
		return t, nil
	}
	if len(s.tenants) >= s.opt.MaxTenants {
		return nil, fmt.Errorf("statsapp: tenant %q: %d tenants are kept, the most allowed: %w", name, len(s.tenants), ErrFull)
	}
	t := &tenant{
		maxEvents: s.opt.MaxEvents,
		users:     newDictionary(s.opt.MaxEvents),
		names:     newDictionary(s.opt.MaxNames),
		metrics:   newDictionary(s.opt.MaxNames),
	}
	s.tenants[name] = t
	return t, nil
}

// add stores an event that check has passed.
func (s *store) add(e Event) error {
	t, err := s.open(e.Tenant)
	if err != nil {
		return err
	}
	if err := t.add(e); err != nil {
		return fmt.Errorf("statsapp: tenant %q: %w", e.Tenant, err)
	}
	return nil
}

// tenant is the data of one tenant.
type tenant struct {
	maxEvents int

	mu      sync.RWMutex
	users   dictionary // guarded by mu, as all below
	names   dictionary
	metrics dictionary
	buckets []*bucket // ascending by start
	events  int
}

func (t *tenant) add(e Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.events >= t.maxEvents {
		return fmt.Errorf("%d events are kept, the most allowed: %w", t.events, ErrFull)
	}
	r := row{at: e.At, timed: e.Timed, duration: e.Duration, metric: noMetric}
	var err error
	if r.name, err = t.names.id(e.Name); err != nil {
		return fmt.Errorf("event name %q: %w", e.Name, err)
	}
	if e.Metric != "" {
		if r.metric, err = t.metrics.id(e.Metric); err != nil {
			return fmt.Errorf("metric %q: %w", e.Metric, err)
		}
	}
	if r.user, err = t.users.id(e.User); err != nil {
		return fmt.Errorf("user %q: %w", e.User, err)
	}
	t.bucket(e.At).add(r, e.User)
	t.events++
	return nil
}

// bucket returns the bucket of time at, made when it is the first.
func (t *tenant) bucket(at int64) *bucket {
	start := at - at%bucketMS
	i, found := slices.BinarySearchFunc(t.buckets, start, func(b *bucket, start int64) int {
		return int(b.start/bucketMS - start/bucketMS)
	})
	if !found {
		t.buckets = slices.Insert(t.buckets, i, &bucket{start: start})
	}
	return t.buckets[i]
}

const noMetric = ^uint32(0)

// row is one event, its strings replaced by the tenant's numbers for them.
type row struct {
	at       int64 // Unix milliseconds
	duration int64 // milliseconds
	user     uint32
	name     uint32
	metric   uint32 // noMetric when none
	timed    bool
}

// bucket holds the events of one hour: as they came, and summed up by name.
type bucket struct {
	start int64
	rows  []row
	cells []*cell // by name; nil where no event of that name came
}

func (b *bucket) add(r row, user string) {
	b.rows = append(b.rows, r)
	for int(r.name) >= len(b.cells) {
		b.cells = append(b.cells, nil)
	}
	if b.cells[r.name] == nil {
		b.cells[r.name] = &cell{users: roaring.New(), sketch: hyperloglog.New(), metrics: map[uint32]int64{}}
	}
	b.cells[r.name].add(r, user)
}

// cell sums up the events of one name in one bucket.
type cell struct {
	count    int64
	timed    int64 // events with a duration
	duration int64 // milliseconds, of those together
	metrics  map[uint32]int64
	users    *roaring.Bitmap
	sketch   *hyperloglog.Sketch
}

func (c *cell) add(r row, user string) {
	c.count++
	if r.timed {
		c.timed++
		c.duration += r.duration
	}
	if r.metric != noMetric {
		c.metrics[r.metric]++
	}
	c.users.Add(r.user)
	c.sketch.Insert([]byte(user))
}

// dictionary numbers strings from 0, in the order they come.
type dictionary struct {
	ids  map[string]uint32
	text []string
	most int
}

func newDictionary(most int) dictionary {
	return dictionary{ids: map[string]uint32{}, most: most}
}

func (d *dictionary) id(s string) (uint32, error) {
	if id, ok := d.ids[s]; ok {
		return id, nil
	}
	if len(d.text) >= d.most {
		return 0, fmt.Errorf("%d are known, the most allowed: %w", d.most, ErrFull)
	}
	id := uint32(len(d.text))
	d.ids[s], d.text = id, append(d.text, s)
	return id, nil
}
