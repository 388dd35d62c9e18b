package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
)

// state is one snapshot and what runs for it. It is immutable: Apply makes the
// next one, which shares what stayed the same.
type state struct {
	snap     *snapshot.Snapshot
	sites    map[string]*site // by listener
	clusters map[string]*upstream.Cluster
	breakers map[*snapshot.Breaker]*policy.Breakers
	caches   map[*snapshot.Cache]*policy.Cache

	overrides map[*snapshot.RouteTable][]snapshot.Policies // what each table in it says of its own
}

// site is what one listener does under one state.
type site struct {
	*snapshot.Listener
	*state
	table  *snapshot.RouteTable // nil while it is not known
	chains []*site              // of the listener's filter chains
	server *field.Fixed         // what its replies say in Server
}

func newSite(l *snapshot.Listener, s *state, table *snapshot.RouteTable) *site {
	return &site{Listener: l, state: s, table: table, server: field.NewFixed("server", l.HTTP.ServerName)}
}

// cluster returns the running cluster called name, or nil.
func (s *state) cluster(name string) *upstream.Cluster { return s.clusters[name] }

// Apply makes snap what is in force, in one step: requests that have begun go on
// under what they began with. Listeners that are new must have been opened with
// Listen; those that are missing drain. On an error nothing has changed.
func (s *Server) Apply(snap *snapshot.Snapshot) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if err := unique(snap.Listeners); err != nil {
		return err
	}
	old := s.current.Load()
	next := &state{
		snap: snap, sites: make(map[string]*site, len(snap.Listeners)),
		overrides: make(map[*snapshot.RouteTable][]snapshot.Policies, len(snap.Tables)),
		breakers:  make(map[*snapshot.Breaker]*policy.Breakers), caches: make(map[*snapshot.Cache]*policy.Cache),
	}
	t := tables{breakers: make(map[string]*policy.Breakers), caches: make(map[string]*policy.Cache), tuned: make(map[*policy.Breakers]policy.BreakerConfig)}
	for _, l := range snap.Listeners {
		st := newSite(l, next, snap.Table(l))
		for face := range l.Faces {
			if err := s.policies(&t, next, old, face); err != nil {
				return err
			}
		}
		for _, c := range l.Chains {
			own := *c.Listener
			own.Name, own.Address, own.Role, own.TCP = l.Name, l.Address, l.Role, l.TCP
			st.chains = append(st.chains, newSite(&own, next, snap.Table(c.Listener)))
		}
		next.sites[l.Name] = st
	}
	s.take(&t)
	gone := s.run(next, old)
	s.current.Store(next)
	s.rearrange(next)
	for _, c := range gone {
		c.Retire()
	}
	s.forget(next)
	if s.secure.Len() > 0 {
		s.secure.Keep(tlsOf(snap))
	}
	s.files.keep(snap.Listeners)
	return nil
}

// run finds or makes what runs for the clusters of next, and returns what ran for
// those that are gone.
func (s *Server) run(next, old *state) (gone []*upstream.Cluster) {
	var before map[string]*snapshot.Cluster
	if old != nil {
		before, next.clusters = old.snap.Clusters, old.clusters
		if identical(before, next.snap.Clusters) {
			return nil
		}
	}
	own := false // states share their maps as long as nothing comes or goes
	change := func() map[string]*upstream.Cluster {
		if !own {
			next.clusters, own = maps.Clone(next.clusters), true
		}
		if next.clusters == nil {
			next.clusters = make(map[string]*upstream.Cluster, len(next.snap.Clusters))
		}
		return next.clusters
	}
	kept := 0
	for name, c := range next.snap.Clusters {
		was := before[name]
		switch {
		case was == nil:
			change()[name] = upstream.NewCluster(c, s.now, s.clusterTransition)
			continue
		case was != c && *was != *c:
			next.clusters[name].Update(c)
		}
		kept++
	}
	if kept == len(before) {
		return nil
	}
	for name := range before {
		if next.snap.Clusters[name] == nil {
			gone = append(gone, next.clusters[name])
			delete(change(), name)
		}
	}
	return gone
}

// identical reports whether two maps are one: what has been applied is not
// changed any more.
func identical(a, b map[string]*snapshot.Cluster) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// unique refuses listeners that cannot be told apart.
func unique(listeners []*snapshot.Listener) error {
	names, addresses := make(map[string]bool), make(map[string]string)
	for _, l := range listeners {
		if names[l.Name] {
			return fmt.Errorf("proxy: two listeners are called %q", l.Name)
		}
		names[l.Name] = true
		if l.PicksPort() || l.Address == "" {
			continue
		}
		if other, ok := addresses[l.Address]; ok {
			return fmt.Errorf("proxy: listeners %q and %q have the same address %s", other, l.Name, l.Address)
		}
		addresses[l.Address] = l.Name
	}
	return nil
}

// forget drops the tables that nobody names any more. Exchanges that are under
// way keep theirs.
func (s *Server) forget(st *state) {
	named := make(map[any]bool, len(st.breakers)+len(st.caches))
	for _, b := range st.breakers {
		named[b] = true
	}
	for _, c := range st.caches {
		named[c] = true
	}
	maps.DeleteFunc(s.breakers, func(_ string, b *policy.Breakers) bool { return !named[b] })
	maps.DeleteFunc(s.caches, func(_ string, c *policy.Cache) bool { return !named[c] })
}

// Uses reports whether exchanges that run now are on the cluster called name.
func (s *Server) Uses(name string) bool {
	c := s.current.Load().clusters[name]
	return c != nil && c.Active() > 0
}

// tables are those of a snapshot that is not in force yet: nothing is changed
// before all is known to be valid.
type tables struct {
	breakers map[string]*policy.Breakers // by scope
	caches   map[string]*policy.Cache    // by scope
	tuned    map[*policy.Breakers]policy.BreakerConfig
}

// take makes t what is in force.
func (s *Server) take(t *tables) {
	for b, c := range t.tuned {
		if b.Config() != c {
			if err := b.Retune(c); err != nil { // c is valid and of b's size
				s.log.Error("breakers keep their thresholds", "because", err)
			}
		}
	}
	maps.Copy(s.breakers, t.breakers)
	maps.Copy(s.caches, t.caches)
}

// policies finds or makes the tables that l and its routes name.
func (s *Server) policies(ts *tables, st, old *state, l *snapshot.Listener) error {
	use := func(p snapshot.Policies) error {
		return errors.Join(s.useBreaker(ts, st, p.Breaker), s.useCache(ts, st, p.Cache))
	}
	if err := use(l.Policies); err != nil {
		return err
	}
	t := st.snap.Table(l)
	if t == nil {
		return nil
	}
	own, known := st.overrides[t]
	if !known && old != nil {
		own, known = old.overrides[t]
	}
	if !known {
		own = t.Overrides()
	}
	st.overrides[t] = own
	for _, p := range own {
		if err := use(p); err != nil {
			return err
		}
	}
	return nil
}

// useBreaker has a table for b, which may be nil. Tables of one scope are one: a
// new configuration retunes it and its keys stay.
func (s *Server) useBreaker(ts *tables, st *state, b *snapshot.Breaker) error {
	if b == nil || b.Disabled || st.breakers[b] != nil {
		return nil
	}
	t := cmp.Or(ts.breakers[b.Scope], s.breakers[b.Scope])
	var err error
	if t != nil && sameSize(t.Config(), b.Config) {
		err = b.Config.Validate()
	} else {
		if t != nil { // a table cannot grow
			s.log.Warn("breakers of another size begin anew", "scope", b.Scope)
		}
		t, err = policy.NewBreakers(b.Config)
	}
	if err != nil {
		return fmt.Errorf("proxy: breakers of %s: %w", b.Scope, err)
	}
	ts.breakers[b.Scope], ts.tuned[t], st.breakers[b] = t, b.Config, t
	return nil
}

func sameSize(a, b policy.BreakerConfig) bool {
	return a.MaxKeys == b.MaxKeys && a.MaxKeysPerTenant == b.MaxKeysPerTenant && a.MaxTenants == b.MaxTenants
}

// useCache has a cache for c, which may be nil. A changed configuration makes an
// empty one.
func (s *Server) useCache(ts *tables, st *state, c *snapshot.Cache) error {
	if c == nil || c.Disabled || st.caches[c] != nil {
		return nil
	}
	t := cmp.Or(ts.caches[c.Scope], s.caches[c.Scope])
	if t == nil || !sameCache(t.Config(), c.Config) {
		var err error
		if t, err = policy.NewCache(c.Config); err != nil {
			return fmt.Errorf("proxy: cache of %s: %w", c.Scope, err)
		}
	}
	ts.caches[c.Scope], st.caches[c] = t, t
	return nil
}

func sameCache(a, b policy.CacheConfig) bool {
	return a.TTL == b.TTL && a.MaxBytes == b.MaxBytes && a.MaxBodyBytes == b.MaxBodyBytes && slices.Equal(a.IdentityHeaders, b.IdentityHeaders)
}
