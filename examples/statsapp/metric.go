package statsapp

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/axiomhq/hyperloglog"
)

// How a value was found, as Result.Method says it.
const (
	methodCount   = "count"
	methodSum     = "sum"
	methodRoaring = "roaring"
	methodHLL     = "hyperloglog"
	methodScan    = "scan"
)

// metrics are the computed ones; every other name is a custom metric, known once
// an event has carried it.
var metrics = map[string]func(*tenant, Query, *Result){
	"pv":           pv,
	"uv":           uv,
	"ratio":        ratio,
	"funnel":       funnel,
	"avg_duration": avgDuration,
}

func builtin(metric string) bool { return metrics[metric] != nil }

// Query answers q. Its error is a *QueryError. A tenant without events has the
// value 0 for every computed metric.
func (a *App) Query(q Query) (*Result, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	compute := metrics[q.Metric]
	t := a.store.find(q.Tenant)
	if t == nil {
		t = &tenant{}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if compute == nil {
		if _, ok := t.metrics.ids[q.Metric]; !ok {
			return nil, &QueryError{Field: "metric", Reason: unknownMetric(q.Metric), Unknown: true}
		}
		compute = custom
	}
	r := newResult(q)
	compute(t, q, r)
	for from := q.From; q.Step > 0 && from < q.To; from += q.Step {
		row := q
		row.From, row.To = from, min(from+q.Step, q.To)
		one := newResult(row)
		compute(t, row, one)
		r.Rows = append(r.Rows, Row{From: one.From, To: one.To, Value: one.Value})
	}
	return r, nil
}

func pv(t *tenant, q Query, r *Result) {
	sum := t.sum(q, want{})
	r.Value, r.Events, r.Method = float64(sum.count), sum.count, methodCount
}

func uv(t *tenant, q Query, r *Result) {
	sum := t.sum(q, want{users: !q.Approx, sketch: q.Approx})
	r.Value, r.Events, r.Method = sum.unique(), sum.count, methodRoaring
	if q.Approx {
		r.Exact, r.Method = false, methodHLL
	}
}

func ratio(t *tenant, q Query, r *Result) {
	uv(t, q, r)
	if r.Events > 0 {
		r.Value /= float64(r.Events)
	}
}

func avgDuration(t *tenant, q Query, r *Result) {
	sum := t.sum(q, want{})
	r.Events, r.Method, r.TotalDurationMS = sum.timed, methodSum, new(sum.duration)
	if sum.timed > 0 {
		r.Value = float64(sum.duration) / float64(sum.timed)
	}
}

func custom(t *tenant, q Query, r *Result) {
	sum := t.sum(q, want{metric: new(t.metrics.ids[q.Metric])})
	r.Value, r.Events, r.Method = float64(sum.metric), sum.metric, methodCount
}

// funnel counts the users who did each step strictly later than the one before:
// two events of one millisecond have no order. Taking the earliest event that
// fits is optimal, since it leaves the most time for the rest.
func funnel(t *tenant, q Query, r *Result) {
	r.Method = methodScan
	r.Steps = make([]Step, len(q.Steps))
	var ids []uint32
	for i, name := range q.Steps {
		r.Steps[i].Event = name
		if id, ok := t.names.ids[name]; ok {
			ids = append(ids, id)
		}
	}
	var rows []row
	t.walk(q, func(b *bucket) {
		for _, r := range b.rows {
			if slices.Contains(ids, r.name) && q.From <= r.at && r.at < q.To {
				rows = append(rows, r)
			}
		}
	})
	slices.SortFunc(rows, func(x, y row) int { return cmp.Compare(x.at, y.at) })

	type progress struct {
		step int
		at   int64
	}
	users := map[uint32]progress{}
	for _, row := range rows {
		p, began := users[row.user]
		if p.step == len(q.Steps) || began && row.at <= p.at || t.names.text[row.name] != q.Steps[p.step] {
			continue
		}
		r.Steps[p.step].Users++
		users[row.user] = progress{p.step + 1, row.at}
	}
	r.Events = int64(len(rows))
	r.Value = float64(r.Steps[len(r.Steps)-1].Users)
}

// want says which of the costly sums are asked for.
type want struct {
	users  bool
	sketch bool
	metric *uint32
}

// sum is what the events of a query's range and name come to.
type sum struct {
	count, timed, duration, metric int64

	users  *roaring.Bitmap     // nil when not wanted
	sketch *hyperloglog.Sketch // nil when not wanted
}

func (s *sum) unique() float64 {
	if s.users != nil {
		return float64(s.users.GetCardinality())
	}
	return float64(s.sketch.Estimate())
}

// sum adds up q's events: whole buckets by their cells, the rest by their rows.
func (t *tenant) sum(q Query, w want) *sum {
	s := &sum{}
	if w.users {
		s.users = roaring.New()
	}
	if w.sketch {
		s.sketch = hyperloglog.New()
	}
	name, known := t.names.ids[q.Event]
	if q.Event != "" && !known {
		return s
	}
	t.walk(q, func(b *bucket) {
		if q.From <= b.start && b.start+bucketMS <= q.To {
			for id, c := range b.cells {
				if c != nil && (q.Event == "" || uint32(id) == name) {
					s.addCell(c, w)
				}
			}
			return
		}
		for _, r := range b.rows {
			if q.From <= r.at && r.at < q.To && (q.Event == "" || r.name == name) {
				s.addRow(r, t.users.text[r.user], w)
			}
		}
	})
	return s
}

func (s *sum) addCell(c *cell, w want) {
	s.count += c.count
	s.timed += c.timed
	s.duration += c.duration
	if w.metric != nil {
		s.metric += c.metrics[*w.metric]
	}
	if s.users != nil {
		s.users.Or(c.users)
	}
	if s.sketch != nil {
		_ = s.sketch.Merge(c.sketch) // fails only on unlike precisions; all come from New
	}
}

func (s *sum) addRow(r row, user string, w want) {
	s.count++
	if r.timed {
		s.timed++
		s.duration += r.duration
	}
	if w.metric != nil && r.metric == *w.metric {
		s.metric++
	}
	if s.users != nil {
		s.users.Add(r.user)
	}
	if s.sketch != nil {
		s.sketch.Insert([]byte(user))
	}
}

// walk calls f for each bucket that q's range touches, in order of time.
func (t *tenant) walk(q Query, f func(*bucket)) {
	first, _ := slices.BinarySearchFunc(t.buckets, q.From, func(b *bucket, from int64) int {
		return cmp.Compare(b.start+bucketMS-1, from)
	})
	for _, b := range t.buckets[first:] {
		if b.start >= q.To {
			return
		}
		f(b)
	}
}
