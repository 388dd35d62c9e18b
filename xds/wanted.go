package xds

import (
	"slices"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Wanted implements Sink.
func (a *Applier) Wanted(kind Kind) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case kind.Wildcard():
		return nil
	case kind == KindEndpoints:
		return a.eds.names
	}
	names := sortedKeys(a.wants(kind))
	if kind == KindSecret { // those of others are asked of them: see secretSink
		names = slices.DeleteFunc(names, func(key string) bool { return !secretIn(key, "") })
	}
	return names
}

// asks returns whether a name of a kind is to be subscribed.
func (a *Applier) asks(kind Kind) func(name string) bool {
	if kind == KindEndpoints {
		return func(name string) bool { return len(a.eds.of[name]) > 0 }
	}
	wants := a.wants(kind)
	return func(name string) bool { return wants[name] }
}

// wants returns the names of a kind that are to be subscribed. Those of endpoints
// are in eds.
func (a *Applier) wants(kind Kind) map[string]bool {
	out := make(map[string]bool)
	switch kind {
	case KindRoutes:
		for _, l := range a.listeners {
			for _, v := range []*snapshot.Listener{l.next, l.cur} {
				if v == nil {
					continue
				}
				for face := range v.Faces {
					if !isInline(face.RouteName) {
						out[face.RouteName] = true
					}
				}
			}
		}
		delete(out, "")
	case KindRuntime:
		for _, l := range a.layers.from {
			if l.RTDS != "" {
				out[l.RTDS] = true
			}
		}
	case KindSecret:
		return a.wantedSecrets()
	case KindCluster, KindListener, KindEndpoints, kinds:
	}
	return out
}

// FetchTimeouts implements Sink: of each resource the longest that anything which
// names it allows.
func (a *Applier) FetchTimeouts(kind Kind, names []string) map[string]time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]time.Duration)
	allow := func(name string, d time.Duration) {
		if before, ok := out[name]; ok && (before == 0 || d != 0 && d < before) {
			return
		}
		out[name] = d
	}
	switch kind {
	case KindEndpoints:
		for _, name := range names {
			for _, c := range a.eds.of[name] {
				if c.next != nil && c.next.Discovery == snapshot.EDS && service(c.next) == name {
					allow(name, c.next.Fetch)
				}
			}
		}
	case KindRoutes:
		for _, l := range a.listeners {
			if l.next != nil {
				for face := range l.next.Faces {
					allow(face.RouteName, face.RouteFetch)
				}
			}
		}
	case KindRuntime:
		for _, l := range a.layers.from {
			allow(l.RTDS, l.Fetch)
		}
	case KindSecret:
		a.eachRef(func(ref *snapshot.SecretRef, _ bool) {
			if !ref.Source.Static {
				allow(secretKey(ref), ref.Fetch)
			}
		})
	case KindCluster, KindListener, kinds:
	}
	return out
}

// Versions implements Sink.
func (a *Applier) Versions(kind Kind, names []string) map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]string)
	if names != nil {
		for _, name := range names {
			if r := a.kinds[kind].byName[name]; r != nil && r.accepted() {
				out[name] = r.version
			}
		}
		return out
	}
	for name, r := range a.kinds[kind].byName {
		if r.accepted() {
			out[name] = r.version
		}
	}
	return out
}

// release forgets what nobody asks for any more, and notes what is asked for.
func (a *Applier) release(now time.Time) {
	for _, name := range a.eds.settle() {
		if len(a.eds.of[name]) > 0 {
			a.resource(KindEndpoints, name, now)
			continue
		}
		delete(a.kinds[KindEndpoints].byName, name)
		delete(a.assigned, name)
		a.compiler.ForgetAssignment(name)
	}
	clear(a.eds.moved) // resource marks what it makes
	for _, kind := range []Kind{KindRoutes, KindRuntime, KindSecret} {
		wants := a.wants(kind)
		for name := range a.kinds[kind].byName {
			if wants[name] {
				continue
			}
			delete(a.kinds[kind].byName, name)
			if kind == KindSecret {
				delete(a.secrets, name)
				a.compiler.ForgetSecret(secretName(name))
			}
		}
		if kind == KindRoutes {
			for name := range a.tables {
				if !wants[name] && !a.hasInline(name) {
					delete(a.tables, name)
					a.compiler.Forget(name) // of one inside a listener it knows nothing
				}
			}
		}
		for name := range wants {
			a.resource(kind, name, now)
		}
	}
}
