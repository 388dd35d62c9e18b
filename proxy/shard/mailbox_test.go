package shard

import (
	"sync"
	"testing"
)

// letter is mail that knows who posted it and in which order.
type letter struct {
	Mail
	from, number int
}

// sorter checks the order of each sender's letters.
type sorter struct {
	letters map[*Mail]*letter
	next    []int
	bad     string
}

func (s *sorter) Receive(m *Mail) {
	l := s.letters[m]
	if l == nil {
		s.bad = "mail that nobody posted"
		return
	}
	delete(s.letters, m) // twice the same is mail that nobody posted
	if s.next[l.from] != l.number {
		s.bad = "a sender's mail came out of order"
	}
	s.next[l.from]++
}

func TestMailboxKeepsEachSendersOrder(t *testing.T) {
	const senders, each = 8, 5000
	box := mailbox{wake: make(chan struct{}, 1)}
	s := &sorter{letters: make(map[*Mail]*letter), next: make([]int, senders)}
	posts := make([][]letter, senders)
	for i := range posts {
		posts[i] = make([]letter, each)
		for j := range posts[i] {
			l := &posts[i][j]
			l.To, l.from, l.number = s, i, j
			s.letters[&l.Mail] = l
		}
	}
	var wg sync.WaitGroup
	for i := range posts {
		wg.Go(func() {
			for j := range posts[i] {
				box.post(&posts[i][j].Mail)
			}
		})
	}
	for got := 0; got < senders*each; {
		m := box.take()
		if m == nil { // sleep as the loop does: a lost wake-up would hang here
			<-box.wake
			continue
		}
		for m != nil {
			next := m.next
			m.next = nil
			m.To.Receive(m)
			m = next
			got++
		}
		if s.bad != "" {
			t.Fatal(s.bad)
		}
	}
	wg.Wait()
	if len(s.letters) != 0 || box.take() != nil {
		t.Fatalf("%d letters lost", len(s.letters))
	}
}

// TestMailMayBePostedAgainFromReceive: whoever received its mail may post it
// at once, which is how errands repeat themselves.
func TestMailMayBePostedAgainFromReceive(t *testing.T) {
	box := mailbox{wake: make(chan struct{}, 1)}
	r := &repeater{box: &box, left: 100}
	m := &Mail{To: r}
	box.post(m)
	for got := box.take(); got != nil; got = box.take() {
		got.To.Receive(got) // one at a time: the box held one
	}
	if r.left != 0 {
		t.Fatalf("%d repetitions missing", r.left)
	}
}

type repeater struct {
	box  *mailbox
	left int
}

func (r *repeater) Receive(m *Mail) {
	if r.left > 0 {
		r.left--
		r.box.post(m)
	}
}

func TestMailboxAllocatesNothing(t *testing.T) {
	box := mailbox{wake: make(chan struct{}, 1)}
	mail := make([]Mail, 16)
	if n := testing.AllocsPerRun(1000, func() {
		for i := range mail {
			box.post(&mail[i])
		}
		for m := box.take(); m != nil; {
			m, m.next = m.next, nil
		}
	}); n != 0 {
		t.Errorf("%v allocations a round, want none", n)
	}
}

func BenchmarkMailbox(b *testing.B) {
	b.ReportAllocs()
	box := mailbox{wake: make(chan struct{}, 1)}
	m := new(Mail)
	for b.Loop() {
		box.post(m)
		m = box.take()
		<-box.wake
	}
}

// BenchmarkMailboxContended has every other CPU post while one takes.
func BenchmarkMailboxContended(b *testing.B) {
	b.ReportAllocs()
	box := mailbox{wake: make(chan struct{}, 1)}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for m := box.take(); m != nil; {
				next := m.next
				m.To.Receive(m)
				m = next
			}
			select {
			case <-box.wake:
			case <-stop:
				return
			}
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		back := &returned{free: make(chan *Mail, 1)}
		back.free <- &Mail{To: back}
		for pb.Next() {
			box.post(<-back.free)
		}
		<-back.free
	})
	close(stop)
	<-done
}

type returned struct{ free chan *Mail }

func (r *returned) Receive(m *Mail) { r.free <- m }
