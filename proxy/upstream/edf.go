package upstream

import "math/rand/v2"

// edf is an earliest-deadline-first schedule: what has weight w comes up every
// 1/w, so that picks are spread evenly in time and not bunched by weight. It is
// a binary heap; a pick moves one entry and allocates nothing.
type edf struct {
	now   float64
	order uint64
	heap  []turn
}

// turn is when an item comes up next. Of equal ones the earlier queued is first.
type turn struct {
	at    float64
	order uint64
	item  int32
}

func (t turn) before(o turn) bool { return t.at < o.at || t.at == o.at && t.order < o.order }

// start fills the schedule with n items. Each is somewhere on the way to its next
// turn: schedules that all began alike would send their first requests to the same
// endpoints, and one that is made anew often would never come to the light ones.
func (q *edf) start(n int, weight func(i int) float64) {
	q.heap = make([]turn, n)
	for i := range n {
		q.heap[i] = turn{at: rand.Float64() / weight(i), order: uint64(i), item: int32(i)}
	}
	q.order = uint64(n)
	for i := n/2 - 1; i >= 0; i-- {
		q.sink(i)
	}
}

// first returns the item whose turn it is; put it back with again.
func (q *edf) first() int {
	q.now = max(q.now, q.heap[0].at)
	return int(q.heap[0].item)
}

// again queues the first item for its next turn.
func (q *edf) again(weight float64) {
	q.heap[0].at, q.heap[0].order = q.now+1/weight, q.order
	q.order++
	q.sink(0)
}

func (q *edf) sink(i int) {
	h := q.heap
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
