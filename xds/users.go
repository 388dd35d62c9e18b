package xds

import (
	"slices"

	"github.com/quadnine/quadnine/snapshot"
)

// users says which clusters have their endpoints from which assignment, so that
// neither what is subscribed to nor what an assignment changes has to be looked
// for in all of them.
type users struct {
	of    map[string][]*clusterSlot // by EDS name; a cluster is in it once for next and once for cur
	moved map[string]bool           // what may have come or gone since names was made
	names []string                  // of of, ascending; replaced, never changed in place
}

func newUsers() users {
	return users{of: make(map[string][]*clusterSlot), moved: make(map[string]bool)}
}

// change has c use next and cur instead of what it uses. Either may be nil.
func (u *users) change(c *clusterSlot, next, cur *snapshot.ClusterSettings) {
	for _, s := range []*snapshot.ClusterSettings{next, cur} {
		if s == nil || s.Discovery != snapshot.EDS {
			continue
		}
		name := service(s)
		if len(u.of[name]) == 0 {
			u.moved[name] = true
		}
		u.of[name] = append(u.of[name], c)
	}
	for _, s := range []*snapshot.ClusterSettings{c.next, c.cur} {
		if s == nil || s.Discovery != snapshot.EDS {
			continue
		}
		name := service(s)
		list := u.of[name]
		last := len(list) - 1
		list[slices.Index(list, c)] = list[last]
		list[last] = nil
		if u.of[name] = list[:last]; last == 0 {
			delete(u.of, name)
			u.moved[name] = true
		}
	}
}

// settle brings names up to date and returns what may have come or gone.
func (u *users) settle() []string {
	if len(u.moved) == 0 {
		return nil
	}
	moved := sortedKeys(u.moved)
	clear(u.moved)
	names := make([]string, 0, len(u.names)+len(moved))
	rest := u.names
	for _, name := range moved {
		i, found := slices.BinarySearch(rest, name)
		names = append(names, rest[:i]...)
		if len(u.of[name]) > 0 {
			names = append(names, name)
		}
		if found {
			i++
		}
		rest = rest[i:]
	}
	names = append(names, rest...)
	u.names = names
	return moved
}

// turn makes next what is configured as c and cur what is in use as it. All
// changes of either go through it.
func (a *Applier) turn(c *clusterSlot, next, cur *snapshot.ClusterSettings) {
	a.eds.change(c, next, cur)
	c.next, c.cur = next, cur
	if securing(next) || securing(cur) {
		a.securing[c.name] = c
	} else {
		delete(a.securing, c.name)
	}
	if next != nil && next == cur {
		delete(a.parted, c.name)
	} else {
		a.parted[c.name] = c
	}
	a.stirred[c.name] = true
}

// stirUsers notes that the endpoints of an EDS name have changed.
func (a *Applier) stirUsers(name string) {
	for _, c := range a.eds.of[name] {
		a.stirred[c.name] = true
	}
}

// securing reports whether c, which may be nil, needs a secret.
func securing(c *snapshot.ClusterSettings) bool {
	return c != nil && c.TLS != nil && (c.TLS.ValidationRef != nil || len(c.TLS.CertificateRefs) > 0)
}
