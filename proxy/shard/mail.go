package shard

import "sync/atomic"

// Receiver gets mail on its shard's goroutine.
type Receiver interface {
	Receive(m *Mail)
}

// Mail is one message to a shard. It is part of what it is about (a connection,
// an exchange), so that posting allocates nothing. It must not be posted again
// before it was received.
type Mail struct {
	To   Receiver
	next *Mail
}

// mailbox is a queue of many producers and one consumer. Producers push on a
// stack by CAS; the consumer takes the whole stack and reverses it, so there is
// no ABA problem and the order of each producer is kept.
type mailbox struct {
	top    atomic.Pointer[Mail]
	wake   chan struct{}          // capacity 1: a token means "look again"
	ringer atomic.Pointer[poller] // what the loop sleeps in instead, once it has one
}

func (b *mailbox) post(m *Mail) {
	for {
		old := b.top.Load()
		m.next = old
		if b.top.CompareAndSwap(old, m) {
			if old == nil { // whoever fills an empty box rings
				b.ring()
			}
			return
		}
	}
}

// ring has the loop look. One that has just got its poller looks once more
// before it sleeps in it, so a token that comes too late for it is not missed.
func (b *mailbox) ring() {
	if p := b.ringer.Load(); p != nil {
		p.ring()
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns all mail, oldest first, linked by next.
func (b *mailbox) take() *Mail {
	if b.top.Load() == nil {
		return nil
	}
	var first *Mail
	for m := b.top.Swap(nil); m != nil; {
		next := m.next
		m.next = first
		first, m = m, next
	}
	return first
}
