package xds

import (
	"maps"
	"slices"

	"github.com/quadnine/quadnine/snapshot"
)

// compose makes a snapshot of all that is in use. What is as it was is the same
// pointer as before.
func (a *Applier) compose() *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Tables:   make(map[string]*snapshot.RouteTable, len(a.tables)),
		Clusters: a.composeClusters(),
		Runtime:  a.layers.merged,
	}
	for _, name := range sortedKeys(a.listeners) {
		slot := a.listeners[name]
		if slot.cur == nil {
			continue
		}
		l := a.furnishListener(slot)
		s.Listeners = append(s.Listeners, l)
		for face := range l.Faces {
			if t := a.tables[face.RouteName]; t != nil && t.cur != nil {
				s.Tables[face.RouteName] = t.cur
			}
		}
	}
	return s
}

// composeClusters returns the clusters of a snapshot: the same map as before when
// they are the same clusters. It looks at those that something has happened to.
func (a *Applier) composeClusters() map[string]*snapshot.Cluster {
	own := false
	change := func(name string, to *snapshot.Cluster) {
		if !own {
			a.composed, own = maps.Clone(a.composed), true
			a.composes++
		}
		if to == nil {
			delete(a.composed, name)
		} else {
			a.composed[name] = to
		}
	}
	for name := range a.stirred {
		c, before := a.clusters[name], a.composed[name]
		if c == nil || c.cur == nil {
			if before != nil {
				change(name, nil)
			}
			continue
		}
		is := snapshot.Cluster{ClusterSettings: a.furnishCluster(c), Assignment: a.assignment(c.cur, c.curDNS), Retained: c.next == nil}
		if before == nil || *before != is {
			change(name, &is)
		}
	}
	return a.composed
}

// same reports whether two snapshots hold the same parts, clusters aside.
func same(a, b *snapshot.Snapshot) bool {
	return a.Runtime == b.Runtime && slices.Equal(a.Listeners, b.Listeners) && maps.Equal(a.Tables, b.Tables)
}
