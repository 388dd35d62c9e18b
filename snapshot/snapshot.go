package snapshot

// Snapshot is one whole configuration: what every listener does, and where
// requests can go. Its parts are shared between successive snapshots as long as
// they are the same, so that comparing pointers tells what changed; so are its
// maps, which nobody changes once the snapshot is in force.
type Snapshot struct {
	Listeners []*Listener            // by name, ascending
	Tables    map[string]*RouteTable // those that listeners name in RouteName
	Clusters  map[string]*Cluster
	Runtime   *Runtime // nil: nothing is overridden
}

// Table returns the route table of l, or nil while it is not known.
func (s *Snapshot) Table(l *Listener) *RouteTable {
	if l.Inline != nil {
		return l.Inline
	}
	return s.Tables[l.RouteName]
}
