package xds

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// memory is what a client keeps of its streams from one to the next.
type memory struct {
	// accepted is the version of the last SotW response that was accepted whole,
	// and by what server it was sent: another server's versions mean other things.
	accepted [kinds]struct {
		version string
		server  int
	}
	// from says what server a resource in use came from, in the life of this
	// process. What was restored from a file has none: its versions may mean
	// something else by now.
	from     [kinds]map[string]int
	answered [kinds]bool // there was a response
	limit    [kinds]limiter
}

// topic is the state of one kind on one stream.
type topic struct {
	kind     Kind
	open     bool     // there was a request
	names    []string // subscribed to, ascending; never changed in place
	accepted string   // SotW: the version of the last response that was accepted whole
	nonce    string   // of the newest response, whether it was accepted or not
	version  string   // likewise

	rejected  []Rejected // of the newest response, nil if it was accepted
	sum       uint64     // of the newest response, if it was rejected
	validated time.Time  // when, then
	held      *heldNack  // a NACK that the limit holds back

	waits map[string]time.Time // when a name that nobody answered for is missing
	soon  time.Time            // the first of them; may be too early

	KindStatus
}

// heldNack is the NACK of a response that the limit holds back.
type heldNack struct {
	nonce  string
	status *status.Status
	names  []string // that were rejected
	key    uint64
	due    time.Time
}

// settled reports whether a later response speaks of what was rejected.
func (h *heldNack) settled(r *response) bool {
	return slices.ContainsFunc(h.names, func(name string) bool {
		return name == "" || slices.Contains(r.removed, name) || slices.ContainsFunc(r.resources, func(res Resource) bool { return res.Name == name })
	})
}

// session is the protocol on one stream, without the stream: it takes responses
// and the time, and leaves requests in out. It belongs to one goroutine.
type session struct {
	dialect
	server    int // among those of the client
	node      *corev3.Node
	nodeOnce  bool
	elsewhere []Kind
	sink      Sink
	log       *slog.Logger
	timeout   func(Kind) time.Duration
	memory    *memory
	topics    [kinds]topic
	responded bool
	unwatched map[string]bool
	requests  int
	out       []proto.Message
}

func (s *session) start(now time.Time) {
	s.unwatched = make(map[string]bool)
	for _, k := range Kinds() {
		s.topics[k].kind = k
		s.topics[k].Kind = k
		s.topics[k].waits = make(map[string]time.Time)
	}
	s.sync(now)
}

// send leaves a request in out.
func (s *session) send(m proto.Message) {
	node := s.node
	if s.nodeOnce && s.requests > 0 {
		node = nil
	}
	switch m := m.(type) {
	case *discoveryv3.DiscoveryRequest:
		m.Node = node
	case *discoveryv3.DeltaDiscoveryRequest:
		m.Node = node
	}
	s.requests++
	s.out = append(s.out, m)
}

// take returns the requests to be sent, in order.
func (s *session) take() []proto.Message {
	out := s.out
	s.out = nil
	return out
}

// sync brings the subscriptions to what is wanted: at most one request a kind.
func (s *session) sync(now time.Time) {
	for _, k := range Kinds() {
		t := &s.topics[k]
		var wanted []string
		if !k.Wildcard() {
			if wanted = s.sink.Wanted(k); t.open && identical(wanted, t.names) {
				continue
			}
			wanted = names(wanted)
		}
		switch {
		case !t.open && !k.Wildcard() && len(wanted) == 0:
			// A first request without names would ask for everything.
		case !t.open && slices.Contains(s.elsewhere, k):
		case !t.open:
			s.open(now, t, wanted)
		case !slices.Equal(wanted, t.names):
			added, gone := difference(wanted, t.names), difference(t.names, wanted)
			t.names = wanted
			for _, name := range gone {
				delete(t.waits, name)
			}
			s.send(s.change(t, added, gone))
			s.wait(now, t, added)
		}
	}
}

// open sends the first request of a kind on this stream.
func (s *session) open(now time.Time, t *topic, wanted []string) {
	k := t.kind
	t.open, t.names = true, wanted
	have := s.sink.Versions(k, nil)
	from := s.memory.from[k]
	maps.DeleteFunc(from, func(name string, _ int) bool { _, ok := have[name]; return !ok })

	versions := make(map[string]string, len(have))
	missing := false
	note := func(name, version string) {
		if server, ok := from[name]; !ok || server != s.server {
			version = "" // whatever the server has is news, and so is that it has nothing
		}
		versions[name] = version
	}
	if k.Wildcard() {
		for name, version := range have {
			note(name, version)
		}
	}
	for _, name := range wanted {
		if version, ok := have[name]; ok {
			note(name, version)
		} else {
			missing = true
		}
	}
	// A server that takes the version for "has everything of it" would not send
	// what was never received.
	if a := s.memory.accepted[k]; a.server == s.server && !missing {
		t.accepted = a.version
	}
	s.send(s.first(t, versions))
	if k.Wildcard() {
		wanted = []string{""}
	}
	s.wait(now, t, wanted)
}

// receive takes a response: what is valid of it goes to the sink, and an answer
// is left in out.
func (s *session) receive(now time.Time, m proto.Message) {
	r, ok := s.decode(m)
	if !ok {
		return
	}
	k, known := KindOf(r.typeURL)
	if !known || !s.topics[k].open {
		// No answer either: a server that answers it would do so for ever.
		if !s.unwatched[r.typeURL] && len(s.unwatched) < 64 {
			s.unwatched[r.typeURL] = true
			s.log.Warn("xds: a response of a type that was not asked for is ignored", "type_url", cut(r.typeURL, 256))
		}
		return
	}
	t := &s.topics[k]
	s.responded = true
	t.nonce, t.version = r.nonce, r.version
	if t.held != nil && (!s.lasting() || t.held.settled(r)) {
		t.held = nil
	}
	t.Responses++
	t.Received = now

	s.relevant(t, r)
	t.answeredBy(r)
	s.memory.answered[k] = true
	rejected, again := s.validate(now, t, r)
	t.rejected = rejected
	if len(rejected) == 0 {
		t.sum = 0
		t.accepted = r.version
		s.memory.accepted[k].version, s.memory.accepted[k].server = r.version, s.server
		s.ack(now, t)
	} else {
		if !again {
			t.sum, t.validated = r.sum(), now
		}
		key := r.rejectedSum(rejected)
		why := nackStatus(k, rejected)
		if due := s.memory.limit[k].due(now, key); due.After(now) {
			t.Held++
			t.held = &heldNack{t.nonce, why, rejectedNames(rejected), key, due}
		} else {
			s.nack(now, t, &heldNack{t.nonce, why, nil, key, now})
		}
	}
	s.sync(now)
}

// relevant drops what nobody asked for: a server may send more.
func (s *session) relevant(t *topic, r *response) {
	if t.kind.Wildcard() {
		return
	}
	asked := func(name string) bool { _, ok := slices.BinarySearch(t.names, name); return ok }
	before := len(r.resources)
	r.resources = slices.DeleteFunc(r.resources, func(res Resource) bool { return !asked(res.Name) })
	t.Unasked += before - len(r.resources)
	r.rejected = slices.DeleteFunc(r.rejected, func(rej Rejected) bool { return !asked(rej.Name) })
	r.bodiless = slices.DeleteFunc(r.bodiless, func(name string) bool { return !asked(name) })
	r.removed = slices.DeleteFunc(slices.Clone(r.removed), func(name string) bool { return !asked(name) })
}

// validate has the sink take a response and returns what is wrong with it. The
// response that was rejected last is not validated again when it is repeated.
func (s *session) validate(now time.Time, t *topic, r *response) (rejected []Rejected, again bool) {
	k := t.kind
	if r.refusal != nil {
		return []Rejected{*r.refusal}, false
	}
	if t.sum != 0 && now.Before(t.validated.Add(validAgain)) && r.sum() == t.sum {
		t.Repeated++
		return t.rejected, true
	}
	have := s.memory.from[k]
	if len(r.bodiless) > 0 {
		// A heartbeat keeps what is known; there is nothing else it could do.
		for _, name := range r.bodiless {
			if _, ok := have[name]; !ok {
				rejected = append(rejected, Rejected{Name: name, Path: "resource", Reason: "it has no body, and was not sent before", Hint: "send the resource"})
			}
		}
		if len(r.resources) == 0 && len(r.removed) == 0 && len(r.errors) == 0 {
			return rejected, false
		}
	}
	rejected = append(rejected, r.rejected...)
	rejected = append(rejected, s.sink.Update(Update{
		Kind: k, Variant: s.name(), Version: r.version, Nonce: r.nonce,
		Resources: r.resources, Removed: r.removed, Errors: r.errors,
	})...)

	bad := make(map[string]bool, len(rejected))
	for _, rej := range rejected {
		bad[rej.Name] = true
	}
	if have == nil {
		have = make(map[string]int, len(r.resources))
		s.memory.from[k] = have
	}
	for _, res := range r.resources {
		if !bad[""] && !bad[res.Name] {
			have[res.Name] = s.server
		}
	}
	for _, name := range r.removed {
		delete(have, name)
	}
	return rejected, false
}

func (s *session) ack(now time.Time, t *topic) {
	t.Acks++
	t.Acked, t.Version, t.Nack = now, t.version, ""
	s.send(s.answer(t, t.nonce, nil))
}

func (s *session) nack(now time.Time, t *topic, h *heldNack) {
	text := h.status.GetMessage()
	if text != t.Nack {
		s.log.Warn("xds: rejected", "type", t.kind.String(), "version", t.version, "reason", text)
	}
	t.Nacks++
	t.Nacked, t.Nack = now, text
	s.memory.limit[t.kind].sent(now, h.key)
	s.send(s.answer(t, h.nonce, h.status))
}

func rejectedNames(list []Rejected) []string {
	all := make([]string, 0, len(list))
	for _, r := range list {
		all = append(all, r.Name)
	}
	return all
}

// identical reports whether two lists are one.
func identical(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// names returns list ascending, without repetition and empty names: list itself
// where it is like that.
func names(list []string) []string {
	if orderly(list) {
		return list
	}
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) > 0 && sorted[0] == "" {
		sorted = sorted[1:]
	}
	return sorted
}

func orderly(list []string) bool {
	for i, name := range list {
		if name == "" || i > 0 && name <= list[i-1] {
			return false
		}
	}
	return true
}

// difference returns what of a, ascending, is not in b, ascending.
func difference(a, b []string) []string {
	var only []string
	for _, name := range a {
		for len(b) > 0 && b[0] < name {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != name {
			only = append(only, name)
		}
	}
	return only
}
