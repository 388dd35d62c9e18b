package xds

import (
	"maps"
	"slices"
	"time"
)

// wait starts the timers of names that were just asked for and that nothing is
// known of. What is cached stays in use however long a server says nothing: after
// a reconnect silence means that nothing changed.
func (s *session) wait(now time.Time, t *topic, asked []string) {
	if len(asked) == 0 {
		return
	}
	of := asked
	if t.kind.Wildcard() {
		of = nil
	}
	have := s.sink.Versions(t.kind, of)
	if t.kind.Wildcard() && (s.memory.answered[t.kind] || len(have) > 0) {
		return
	}
	asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { _, ok := have[name]; return ok })
	if len(asked) == 0 {
		return
	}
	var own map[string]time.Duration
	if !t.kind.Wildcard() {
		own = s.sink.FetchTimeouts(t.kind, asked)
	}
	for _, name := range asked {
		timeout, ok := own[name]
		if !ok {
			timeout = s.timeout(t.kind)
		}
		if timeout <= 0 {
			continue
		}
		due := now.Add(timeout)
		t.waits[name] = due
		if t.soon.IsZero() || due.Before(t.soon) {
			t.soon = due
		}
	}
}

// deadline returns when tick has something to do; the zero time for never.
func (s *session) deadline() time.Time {
	var first time.Time
	for k := range s.topics {
		t := &s.topics[k]
		if len(t.waits) > 0 && (first.IsZero() || t.soon.Before(first)) {
			first = t.soon
		}
		if t.held != nil && (first.IsZero() || t.held.due.Before(first)) {
			first = t.held.due
		}
	}
	return first
}

// tick does what is due: NACKs that were held back, timers that ran out.
func (s *session) tick(now time.Time) {
	gone := false
	for k := range s.topics {
		t := &s.topics[k]
		if h := t.held; h != nil && !now.Before(h.due) {
			t.held = nil
			s.nack(now, t, h)
		}
		if len(t.waits) == 0 || now.Before(t.soon) {
			continue
		}
		t.soon = time.Time{}
		for _, name := range slices.Sorted(maps.Keys(t.waits)) {
			if due := t.waits[name]; now.Before(due) {
				if t.soon.IsZero() || due.Before(t.soon) {
					t.soon = due
				}
				continue
			}
			delete(t.waits, name)
			s.log.Warn("xds: no answer for a resource", "type", t.kind.String(), "name", name)
			s.sink.Missing(t.kind, name)
			gone = true
		}
	}
	if gone {
		s.sync(now)
	}
}

// answeredBy stops the timers of what a response speaks of, be it valid or not.
func (t *topic) answeredBy(r *response) {
	delete(t.waits, "")
	if len(t.waits) == 0 {
		return
	}
	for _, res := range r.resources {
		delete(t.waits, res.Name)
	}
	for _, rej := range r.rejected {
		delete(t.waits, rej.Name)
	}
	for _, name := range r.removed {
		delete(t.waits, name)
	}
	for _, e := range r.errors {
		delete(t.waits, e.Name)
	}
}
