package shard

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// reach is how far ahead the random tests set deadlines: within a tick, within
// each level, past what the wheel can hold, and as far as an int64 goes.
func reach() *rapid.Generator[int64] {
	ms, hour := int64(time.Millisecond), int64(time.Hour)
	return rapid.OneOf(
		rapid.Int64Range(-5*ms, 5*ms),
		rapid.Int64Range(0, 200*ms),
		rapid.Int64Range(0, hour),
		rapid.Int64Range(0, 24*365*4*hour),
		rapid.SampledFrom([]int64{0, 1, ms - 1, ms, 64 * ms, 64 * 64 * ms, maxTicks * ms, (maxTicks + 1) * ms, math.MaxInt64 / 2, math.MaxInt64}),
	)
}

// plan is what the naive model knows of one timer.
type plan struct {
	deadline int64
	armedAt  int64 // tick of the wheel's clock when it was armed
}

// wheelModel is a wheel beside a map of deadlines.
type wheelModel struct {
	rt     *rapid.T
	wheel  wheel
	now    int64
	timers [12]Timer
	plans  map[*Timer]plan
	inside bool // an advance is under way
}

func (m *wheelModel) arm(t *Timer, after int64) {
	deadline := m.now + after
	if after > 0 && deadline < 0 {
		deadline = math.MaxInt64
	}
	m.wheel.arm(t, deadline)
	m.plans[t] = plan{deadline, m.now / tick}
}

func (m *wheelModel) stop(t *Timer) {
	m.wheel.stop(t)
	delete(m.plans, t)
}

func (m *wheelModel) pick() *Timer {
	return &m.timers[rapid.IntRange(0, len(m.timers)-1).Draw(m.rt, "timer")]
}

// Expire checks that t may fire, and changes timers from inside the fire.
func (m *wheelModel) Expire(t *Timer, now int64) {
	p, ok := m.plans[t]
	switch {
	case !m.inside:
		m.rt.Fatalf("timer fired outside of advance")
	case !ok:
		m.rt.Fatalf("timer fired at %d although it is not armed", now)
	case now != m.now || p.deadline > now:
		m.rt.Fatalf("timer for %d fired early, at %d (the clock says %d)", p.deadline, now, m.now)
	case t.Armed():
		m.rt.Fatalf("timer counts as armed while it fires")
	}
	delete(m.plans, t)
	switch rapid.IntRange(0, 4).Draw(m.rt, "inside") {
	case 0:
		m.arm(t, reach().Draw(m.rt, "again"))
	case 1:
		m.arm(m.pick(), reach().Draw(m.rt, "other"))
	case 2:
		m.stop(m.pick())
	case 3:
		m.stop(t) // already fired: does nothing
	}
}

// due is the last tick at which p may fire.
func (p plan) due() int64 {
	ticks := p.deadline / tick
	if p.deadline%tick > 0 {
		ticks++
	}
	return max(ticks, p.armedAt+1)
}

func (m *wheelModel) advance(to int64) {
	m.now = to
	m.inside = true
	m.wheel.advance(to)
	m.inside = false
	for _, p := range m.plans {
		if p.due() <= to/tick {
			m.rt.Fatalf("timer for %d, armed at tick %d, did not fire by %d", p.deadline, p.armedAt, to)
		}
	}
}

// check compares what can be seen of the wheel at rest.
func (m *wheelModel) check() {
	if m.wheel.armed != len(m.plans) {
		m.rt.Fatalf("%d timers armed, want %d", m.wheel.armed, len(m.plans))
	}
	for i := range m.timers {
		t := &m.timers[i]
		if _, ok := m.plans[t]; ok != t.Armed() {
			m.rt.Fatalf("timer %d armed: %v, want %v", i, t.Armed(), ok)
		}
	}
	wake, ok := m.wheel.deadline()
	if ok != (len(m.plans) > 0) {
		m.rt.Fatalf("a next deadline: %v, with %d timers", ok, len(m.plans))
	}
	if !ok {
		return
	}
	if wake/tick <= m.now/tick {
		m.rt.Fatalf("next deadline %d is not after the clock, %d: an idle loop would spin", wake, m.now)
	}
	for _, p := range m.plans {
		if wake/tick > p.due() {
			m.rt.Fatalf("next deadline %d, but a timer for %d is armed", wake, p.deadline)
		}
	}
}

func TestWheelAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &wheelModel{rt: rt, plans: make(map[*Timer]plan)}
		m.now = rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(rt, "start")
		m.wheel.now = m.now / tick
		for i := range m.timers {
			m.timers[i].To = m
		}
		rt.Repeat(map[string]func(*rapid.T){
			"":     func(*rapid.T) { m.check() },
			"arm":  func(*rapid.T) { m.arm(m.pick(), reach().Draw(rt, "after")) },
			"stop": func(*rapid.T) { m.stop(m.pick()) },
			"step": func(*rapid.T) { m.advance(m.now + rapid.Int64Range(0, 3*tick).Draw(rt, "by")) },
			"jump": func(*rapid.T) { m.advance(m.now + rapid.Int64Range(0, int64(40*24*time.Hour)).Draw(rt, "by")) },
			"sleep": func(*rapid.T) { // what an idle loop does
				if wake, ok := m.wheel.deadline(); ok && wake < math.MaxInt64/4 {
					m.advance(wake)
				}
			},
		})
	})
}

// bell counts how often it rang.
type bell struct {
	rang int
	at   int64
	do   func(*Timer, int64)
}

func (b *bell) Expire(t *Timer, now int64) {
	b.rang, b.at = b.rang+1, now
	if b.do != nil {
		b.do(t, now)
	}
}

// TestWheelWakesSeldom pins what an idle loop costs until a far deadline: at
// most one wake-up for each level, and for each round of the whole wheel.
func TestWheelWakesSeldom(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, time.Second, time.Hour, 24 * time.Hour, 400 * 24 * time.Hour, 3 * 365 * 24 * time.Hour, math.MaxInt64 / 2} {
		for _, start := range []int64{0, 1, 63, 64, 12_345_678_901, 1<<36 - 1} {
			w := &wheel{now: start}
			b := new(bell)
			timer := Timer{To: b}
			deadline := start*tick + int64(after)
			w.arm(&timer, deadline)
			wakes := 0
			for b.rang == 0 {
				wake, ok := w.deadline()
				if !ok {
					t.Fatalf("%v from tick %d: timer lost", after, start)
				}
				w.advance(wake)
				if wakes++; wakes > levels+levels*int(int64(after)/tick/maxTicks+1) {
					t.Fatalf("%v from tick %d: %d wake-ups and not there yet", after, start, wakes)
				}
			}
			if b.at < deadline || b.at > deadline+tick {
				t.Errorf("%v from tick %d: fired at %d, want %d to one tick later", after, start, b.at, deadline)
			}
		}
	}
}

// TestWheelWakesOnceInATick: a deadline within a tick costs one wake-up, at the
// tick's end.
func TestWheelWakesOnceInATick(t *testing.T) {
	var w wheel
	timer := Timer{To: new(bell)}
	w.arm(&timer, tick+tick/2)
	if wake, ok := w.deadline(); !ok || wake != 2*tick {
		t.Fatalf("wakes at %d, want %d", wake, 2*tick)
	}
}

// TestWheelMovesLater pins the common case, a deadline that moves with every
// batch: it wakes the loop once at its old time and fires at the new one.
func TestWheelMovesLater(t *testing.T) {
	var w wheel
	b := new(bell)
	timer := Timer{To: b}
	for ms := int64(1); ms <= 100; ms++ {
		w.advance(ms * tick)
		w.arm(&timer, (ms+50)*tick)
	}
	if b.rang != 0 {
		t.Fatalf("fired %d times while its deadline moved ahead of the clock", b.rang)
	}
	w.advance(149 * tick)
	if b.rang != 0 {
		t.Fatal("fired a tick early")
	}
	w.advance(150 * tick)
	if b.rang != 1 {
		t.Fatalf("rang %d times at its deadline, want once", b.rang)
	}
}

// TestWheelFiresOncePerAdvance: after the clock jumped, a timer that sets itself
// into the past again must not run once for each tick that was missed.
func TestWheelFiresOncePerAdvance(t *testing.T) {
	var w wheel
	b := new(bell)
	b.do = func(timer *Timer, _ int64) { w.arm(timer, 0) }
	timer := Timer{To: b}
	w.arm(&timer, tick)
	w.advance(int64(time.Hour))
	if b.rang != 1 {
		t.Fatalf("rang %d times in one wake-up, want once", b.rang)
	}
	w.advance(int64(time.Hour) + tick)
	if b.rang != 2 {
		t.Fatalf("rang %d times a tick later, want twice", b.rang)
	}
}

// TestWheelClockGoesBack: a clock that is read as earlier than before fires
// nothing and loses nothing.
func TestWheelClockGoesBack(t *testing.T) {
	var w wheel
	b := new(bell)
	timer := Timer{To: b}
	w.advance(100 * tick)
	w.arm(&timer, 110*tick)
	w.advance(50 * tick)
	w.advance(109 * tick)
	if b.rang != 0 {
		t.Fatal("fired early")
	}
	w.advance(110 * tick)
	if b.rang != 1 {
		t.Fatal("did not fire")
	}
}

func TestWheelAllocatesNothing(t *testing.T) {
	var w wheel
	timers := make([]Timer, 64)
	for i := range timers {
		timers[i].To = new(bell)
	}
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		for i := range timers {
			w.arm(&timers[i], now+int64(i)*tick*int64(i))
		}
		for i := range timers {
			if i%3 == 0 {
				w.stop(&timers[i])
			}
		}
		now += 17 * tick
		w.advance(now)
	}); n != 0 {
		t.Errorf("%v allocations a round, want none", n)
	}
}

func BenchmarkWheelArmStop(b *testing.B) {
	b.ReportAllocs()
	var w wheel
	timer := Timer{To: new(bell)}
	for b.Loop() {
		w.arm(&timer, int64(30*time.Second))
		w.stop(&timer)
	}
}

func BenchmarkWheelMoveLater(b *testing.B) {
	b.ReportAllocs()
	var w wheel
	timer := Timer{To: new(bell)}
	deadline := int64(30 * time.Second)
	for b.Loop() {
		deadline += tick
		w.arm(&timer, deadline)
	}
}

// BenchmarkWheelTick is a busy shard: 10,000 timers of 30 s, a few due each tick.
func BenchmarkWheelTick(b *testing.B) {
	b.ReportAllocs()
	var w wheel
	ring := &bell{}
	ring.do = func(t *Timer, now int64) { w.arm(t, now+int64(30*time.Second)) }
	timers := make([]Timer, 10_000)
	for i := range timers {
		timers[i].To = ring
		w.arm(&timers[i], int64(i)*3*tick)
	}
	now := int64(0)
	for b.Loop() {
		now += tick
		w.advance(now)
	}
}
