package secure

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Events are told what becomes of files. They must be safe for concurrent use.
type Events struct {
	Read   func() // certificates were read, at first or anew
	Failed func() // they could not be used
}

// Store holds the contexts of one process. Those that name the same files share
// what was read of them.
type Store struct {
	log    *slog.Logger
	events Events

	mu       sync.Mutex
	contexts map[contextKey]*Context // guarded by mu
	pairs    map[pairKey]*pair       // guarded by mu
	roots    map[rootsKey]*roots     // guarded by mu
}

type contextKey struct {
	rules *snapshot.TLS
	peer  Peer
	alpn  string // joined by commas
}

type pairKey struct {
	chain, key, watch string // paths
	chainSum, keySum  [sha256.Size]byte
}

type rootsKey struct {
	path, watch string
	sum         [sha256.Size]byte
}

// NewStore returns an empty store that tells log when files change.
func NewStore(log *slog.Logger, events Events) *Store {
	return &Store{
		log: log, events: events,
		contexts: make(map[contextKey]*Context), pairs: make(map[pairKey]*pair), roots: make(map[rootsKey]*roots),
	}
}

// Server returns the context of t for taking connections. alpn is what is chosen
// from unless t says it.
func (s *Store) Server(t *snapshot.TLS, alpn []string) *Context {
	if t.ALPN != nil {
		alpn = t.ALPN
	}
	return s.context(t, Client, alpn)
}

// Client returns the context of t for making connections.
func (s *Store) Client(t *snapshot.TLS) *Context { return s.context(t, Server, nil) }

func (s *Store) context(t *snapshot.TLS, peer Peer, alpn []string) *Context {
	k := contextKey{t, peer, strings.Join(alpn, ",")}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.contexts[k]; c != nil {
		return c
	}
	for other, c := range s.contexts { // matchers of names are never equal, so that a doubt makes a new one
		if other.peer == peer && other.alpn == k.alpn && reflect.DeepEqual(other.rules, t) {
			s.contexts[k] = c
			return c
		}
	}
	c := &Context{store: s, rules: t, peer: peer, alpn: alpn, tickets: new(tls.Config)}
	for i := range t.Certificates {
		c.pairs = append(c.pairs, s.pair(t.Certificates[i]))
	}
	if v := t.Validation; v != nil && v.Roots.Set() {
		c.roots = s.bundle(v)
	}
	s.contexts[k] = c
	return c
}

func (s *Store) pair(c snapshot.Certificate) *pair {
	k := pairKey{c.Chain.Path, c.Key.Path, c.Watch, sha256.Sum256(c.Chain.Bytes), sha256.Sum256(c.Key.Bytes)}
	p := s.pairs[k]
	if p == nil {
		p = newPair(c)
		s.pairs[k] = p
	}
	return p
}

func (s *Store) bundle(v *snapshot.Validation) *roots {
	k := rootsKey{v.Roots.Path, v.Watch, sha256.Sum256(v.Roots.Bytes)}
	r := s.roots[k]
	if r == nil {
		r = newRoots(v)
		s.roots[k] = r
	}
	return r
}

// Keep forgets the contexts of what used does not name. Handshakes under way go on
// with theirs.
func (s *Store) Keep(used map[*snapshot.TLS]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pairs, bundles := make(map[*pair]bool), make(map[*roots]bool)
	for k, c := range s.contexts {
		if !used[k.rules] {
			delete(s.contexts, k)
			continue
		}
		for _, p := range c.pairs {
			pairs[p] = true
		}
		bundles[c.roots] = true
	}
	for k, p := range s.pairs {
		if !pairs[p] {
			delete(s.pairs, k)
		}
	}
	for k, r := range s.roots {
		if !bundles[r] {
			delete(s.roots, k)
		}
	}
}

// Refresh looks at every file, so that what changes is told, and taken, when
// nobody connects. It must not be called from an event loop.
func (s *Store) Refresh() {
	s.mu.Lock()
	all := make([]*Context, 0, len(s.contexts))
	for _, c := range s.contexts {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		_, _ = c.refresh() // told
	}
}

// Certificate is one that is in use, for people.
type Certificate struct {
	Where  string    // the file, or "given inline"
	Names  []string  // of the certificate itself
	Serial string    // in hexadecimal
	Ends   time.Time // of the first in the chain to end
	CA     bool      // it is a bundle of those trusted to issue
	Error  string    // why newer files are not used; "" when they are
}

// Certificates returns what is in use, those from files first.
func (s *Store) Certificates() []Certificate {
	s.mu.Lock()
	out := make([]Certificate, 0, len(s.pairs)+len(s.roots))
	for _, p := range s.pairs {
		out = append(out, p.tells())
	}
	for _, r := range s.roots {
		out = append(out, r.tells())
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Certificate) int {
		return strings.Compare(a.Where+" "+strings.Join(a.Names, ",")+a.Serial, b.Where+" "+strings.Join(b.Names, ",")+b.Serial)
	})
	return out
}

func (p *pair) tells() Certificate {
	out := Certificate{Where: origin(p.what.Chain)}
	if c := p.cert.Load(); c != nil && c.Leaf != nil {
		for _, kind := range nameKinds {
			out.Names = append(out.Names, namesIn(c.Leaf, kind)...)
		}
		out.Serial, out.Ends = c.Leaf.SerialNumber.Text(16), c.Leaf.NotAfter
		for _, raw := range c.Certificate[1:] {
			if i, err := x509.ParseCertificate(raw); err == nil && i.NotAfter.Before(out.Ends) {
				out.Ends = i.NotAfter
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		out.Error = p.err.Error()
	}
	return out
}

func (r *roots) tells() Certificate {
	out := Certificate{Where: origin(r.what), CA: true}
	if t := r.ends.Load(); t != nil {
		out.Ends = *t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		out.Error = r.err.Error()
	}
	return out
}

// tell logs and counts that there is something new in the files of c, which were
// good version times so far.
func (s *Store) tell(c Certificate, version uint64, err error) {
	switch {
	case err != nil:
		s.events.count(s.events.Failed)
		s.log.Warn("certificates cannot be used", "file", c.Where, "err", err, "in_use", inUse(version))
	default:
		s.events.count(s.events.Read)
		level := slog.LevelInfo
		if version == 1 {
			level = slog.LevelDebug
		}
		s.log.Log(context.Background(), level, "certificates read", "file", c.Where, "names", c.Names, "serial", c.Serial, "until", c.Ends)
	}
}

func inUse(version uint64) string {
	if version == 0 {
		return "none: handshakes fail"
	}
	return "what was read before"
}

func (Events) count(f func()) {
	if f != nil {
		f()
	}
}

// Label names the certificate in metrics: its file, or what it is for.
func (c *Certificate) Label() string {
	switch {
	case c.Where != inline:
		return c.Where
	case c.CA:
		return "trusted_ca " + inline
	case len(c.Names) > 0:
		return c.Names[0]
	default:
		return c.Where
	}
}

// Len returns how many contexts there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.contexts)
}
