package h2

// A Stream can be in two lists at once.
const (
	openLinks = iota
	readyLinks
	linkCount
)

type links struct {
	prev, next *Stream
	in         bool
}

// list is a doubly linked list through one of the Streams' links.
type list struct {
	which       int
	first, last *Stream
}

// push appends s, unless it is in the list.
func (l *list) push(s *Stream) {
	k := &s.links[l.which]
	if k.in {
		return
	}
	*k = links{prev: l.last, in: true}
	if l.last != nil {
		l.last.links[l.which].next = s
	} else {
		l.first = s
	}
	l.last = s
}

// remove takes s out, if it is in the list.
func (l *list) remove(s *Stream) {
	k := s.links[l.which]
	if !k.in {
		return
	}
	if k.prev != nil {
		k.prev.links[l.which].next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		k.next.links[l.which].prev = k.prev
	} else {
		l.last = k.prev
	}
	s.links[l.which] = links{}
}
