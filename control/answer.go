package control

import (
	"bytes"
	"cmp"
	"context"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/peer"

	"github.com/quadnine/quadnine/xds/compile"
)

// opened notes a new stream.
func (s *Server) opened(ctx context.Context, id streamID) error {
	st := &stream{streamID: id, opened: time.Now()}
	if p, ok := peer.FromContext(ctx); ok {
		st.peer = p.Addr.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[id] = st
	return nil
}

// closed notes the end of a stream.
func (s *Server) closed(id streamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	delete(s.streams, id)
	for r, of := range s.pending {
		if of == st {
			delete(s.pending, r)
		}
	}
	if st != nil && st.node != nil {
		st.node.streams--
		st.node.seen = time.Now()
	}
	s.moved()
}

// from notes whose request r is.
func (s *Server) from(id streamID, r any, n *core.Node) *stream {
	st := s.streams[id]
	if st == nil {
		return nil
	}
	for old, of := range s.pending {
		if of == st { // it was not watched: its nonce was stale
			delete(s.pending, old)
		}
	}
	s.pending[r] = st
	if st.node == nil {
		st.node = s.node(st, n)
		st.group = st.node.group
	}
	st.node.seen = time.Now()
	return st
}

// node returns the node of a new stream.
func (s *Server) node(st *stream, about *core.Node) *node {
	id, cluster, agent := describe(about)
	now := time.Now()
	n := s.nodes[id]
	if n == nil {
		s.makeRoom(now)
		n = &node{id: id}
		s.nodes[id] = n
	}
	n.cluster, n.agent, n.variant, n.peer = cluster, agent, st.variant(), st.peer
	n.group = groupOf(sortedKeys(s.groups), id, cluster)
	if n.streams == 0 {
		n.since = now
	}
	n.streams++
	return n
}

// makeRoom forgets nodes that have not been here for long, and any that are away
// when there are too many.
func (s *Server) makeRoom(now time.Time) {
	for id, n := range s.nodes {
		if n.streams == 0 && (len(s.nodes) >= maxNodes || now.Sub(n.seen) > forgetNode) {
			delete(s.nodes, id)
		}
	}
}

func (s *Server) onRequest(id int64, r *discovery.DiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request(streamID{id: id}, r, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	return nil
}

func (s *Server) onDeltaRequest(id int64, r *discovery.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request(streamID{true, id}, r, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	return nil
}

func (s *Server) request(id streamID, r any, about *core.Node, typeURL, nonce string, nack *rpc.Status) {
	st := s.from(id, r, about)
	kind, ok := KindOf(typeURL)
	if st == nil || !ok || nonce == "" {
		return
	}
	resp, ok := st.kinds[kind].answered(nonce)
	if !ok {
		return
	}
	if nack == nil {
		s.acknowledged(st, kind, resp)
	} else {
		s.rejected(st, kind, resp, nack.GetMessage())
	}
	s.moved()
}

func (s *Server) onResponse(_ context.Context, id int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[streamID{id: id}]
	kind, ok := KindOf(r.GetTypeUrl())
	if st == nil || !ok {
		return
	}
	items := make([]item, len(r.GetResources()))
	for i, a := range r.GetResources() {
		name := compile.NameIn(a.GetValue())
		items[i] = item{name, s.versionOf(st.group, kind, name, a.GetValue())}
	}
	has := &st.kinds[kind]
	if kind.whole() || has.sent == nil {
		has.sent = make(map[string]string, len(items))
	}
	for _, it := range items {
		has.sent[it.name] = it.version
	}
	s.sent(st, kind, sent{r.GetNonce(), items})
}

func (s *Server) onDeltaResponse(id int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[streamID{true, id}]
	kind, ok := KindOf(r.GetTypeUrl())
	if st == nil || !ok {
		return
	}
	items := make([]item, 0, len(r.GetResources())+len(r.GetRemovedResources()))
	for _, res := range r.GetResources() {
		items = append(items, item{res.GetName(), res.GetVersion()})
	}
	for _, name := range r.GetRemovedResources() {
		items = append(items, item{name, ""})
	}
	s.sent(st, kind, sent{r.GetNonce(), items})
}

// sent notes a response that is on its way.
func (s *Server) sent(st *stream, kind Kind, r sent) {
	now := time.Now()
	has := &st.kinds[kind]
	has.fired = false
	if has.unsaid = append(has.unsaid, r); len(has.unsaid) > maxUnsaid {
		has.unsaid = has.unsaid[1:]
	}
	s.counts.responses[kind]++
	for _, it := range r.items {
		if it.version != "" {
			nr := st.node.resource(kind, it.name)
			nr.sent, nr.at = it.version, now
		}
	}
	s.moved()
}

// acknowledged notes that a node has taken a response.
func (s *Server) acknowledged(st *stream, kind Kind, r sent) {
	n, now := &st.node.kinds[kind], time.Now()
	n.acks++
	n.lastACK = now
	s.counts.acks[kind]++
	there := make(map[string]bool, len(r.items))
	for _, it := range r.items {
		there[it.name] = true
		s.took(st, kind, it, now)
	}
	if !st.delta && kind.whole() {
		for name := range n.resources {
			if !there[name] {
				delete(n.resources, name)
			}
		}
	}
}

func (s *Server) took(st *stream, kind Kind, it item, now time.Time) {
	if it.version == "" {
		delete(st.node.kinds[kind].resources, it.name)
		return
	}
	nr := st.node.resource(kind, it.name)
	*nr = nodeResource{sent: nr.sent, accepted: it.version, at: now}
	for _, g := range s.groups {
		if h := g.history[kind][it.name]; h != nil {
			if v := h.find(it.version); v != nil {
				h.accept(v)
			}
		}
	}
}

// rejected notes that a node has rejected some of a response. It uses the rest of
// it, as Envoy does.
func (s *Server) rejected(st *stream, kind Kind, r sent, reason string) {
	n, now := &st.node.kinds[kind], time.Now()
	n.nacks++
	n.lastNACK = now
	s.counts.nacks[kind]++
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	has := &st.kinds[kind]
	blamed := blame(reason, r.items, func(name string) string { return st.node.accepted(kind, name) })
	for _, it := range r.items {
		if !blamed[it.name] {
			s.took(st, kind, it, now)
			continue
		}
		nr := st.node.resource(kind, it.name)
		if nr.rejected != it.version {
			nr.nacks = 0
		}
		nr.rejected, nr.reason, nr.at = it.version, reason, now
		nr.nacks++
		for _, g := range s.groups {
			if h := g.history[kind][it.name]; h != nil {
				h.reject(it.version, st.node.id, reason, local(kind, reason, it.name))
			}
		}
		s.log.Warn("a node rejects a resource", "node", st.node.id, "type", kind.String(), "resource", it.name,
			"version", short(it.version), "where", s.where(st.group, kind, it.name), "reason", reason)
		if st.delta || !kind.whole() {
			continue // it is sent again when it changes, and not before
		}
		// Each response of a kind that is sent as a whole would hold it again.
		has.held[it.name] = it.version
		delete(has.sent, it.name)
		if h := s.groups[st.group].history[kind][it.name]; h != nil && h.last() != nil {
			has.sent[it.name] = h.last().Version
		}
	}
}

// blame returns which resources of a response a rejection is about: those that
// it names in quotes, else those that it names, else those that are new to the
// node, else all.
func blame(reason string, items []item, accepted func(string) string) map[string]bool {
	quoted, named, fresh, all := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, it := range items {
		if it.version == "" {
			continue
		}
		all[it.name] = true
		known := accepted(it.name) == it.version
		if !known {
			fresh[it.name] = true
		}
		if it.name == "" || known {
			continue
		}
		if strings.Contains(reason, `"`+it.name+`"`) || strings.Contains(reason, `'`+it.name+`'`) {
			quoted[it.name] = true
		}
		if word(reason, it.name) {
			named[it.name] = true
		}
	}
	for _, m := range []map[string]bool{quoted, named, fresh} {
		if len(m) > 0 {
			return m
		}
	}
	return all
}

// local reports whether what a node says of a listener is of the node alone: it
// cannot open the address, which others may well.
func local(kind Kind, reason, name string) (found bool) {
	for part := range strings.FieldsFuncSeq(reason, func(r rune) bool { return r == ';' || r == '\n' }) {
		if kind == Listeners && word(part, name) {
			if !strings.Contains(part, "cannot bind ") {
				return false
			}
			found = true
		}
	}
	return found
}

// word reports whether s holds name with nothing beside it that names are made
// of.
func word(s, name string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], name)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(name)
		if (i == 0 || !nameByte(s[i-1])) && (end == len(s) || !nameByte(s[end]) || s[end] == '.' && (end+1 == len(s) || s[end+1] == ' ')) {
			return true
		}
		from = i + 1
	}
}

func nameByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("_-.|/", c) >= 0 || c >= 0x80
}

// versionOf returns the version of bytes that were sent.
func (s *Server) versionOf(group string, kind Kind, name string, body []byte) string {
	if h := s.groups[group].history[kind][name]; h != nil {
		if bytes.Equal(h.latest.Body, body) {
			return h.latest.Version
		}
		for _, r := range h.accepted {
			if bytes.Equal(r.Body, body) {
				return r.Version
			}
		}
	}
	return cache.HashResource(body)
}

func (s *Server) where(group string, kind Kind, name string) string {
	if h := s.groups[group].history[kind][name]; h != nil {
		return h.latest.Where
	}
	return ""
}

// short is a version as people are shown it.
func short(version string) string { return cmp.Or(version[:min(12, len(version))], "-") }
