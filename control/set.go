package control

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// Resource is one resource of a directory. It is immutable.
type Resource struct {
	Kind    Kind
	Name    string
	Version string // of its bytes: what a delta response says, too
	Body    []byte
	Message proto.Message
	Where   string // file:line

	at   func(path string) string // file:line of a field
	refs refs
}

// refs is what a resource says of others.
type refs struct {
	assignment string   // cluster: its EDS name
	tables     []string // listener: the route tables that it asks for
	secrets    []string // listener and cluster: those that they ask for on the same stream
	address    string   // listener: where it listens; "" for a free port
	clusters   []string // route table and listener: those that routes name
	strict     bool     // route table: validate_clusters
	ignored    []string // fields without effect
}

// Set is a directory of resources that is valid as a whole.
type Set struct {
	Groups   []*Group // the first, without a name, is for every node that no other is for
	Warnings []string // what does no harm and is perhaps not meant
}

// Group is what some nodes get.
type Group struct {
	Name string // of the directory below nodes/: a node's id or cluster, or a pattern of either

	byKind [kinds]map[string]*Resource
}

func newGroup(name string) *Group {
	g := &Group{Name: name}
	for k := range g.byKind {
		g.byKind[k] = make(map[string]*Resource)
	}
	return g
}

// Resources returns the group's resources of a kind by name.
func (g *Group) Resources(k Kind) []*Resource {
	out := make([]*Resource, 0, len(g.byKind[k]))
	for _, name := range sortedKeys(g.byKind[k]) {
		out = append(out, g.byKind[k][name])
	}
	return out
}

// Get returns the group's resource of that name, or nil.
func (g *Group) Get(k Kind, name string) *Resource { return g.byKind[k][name] }

// Len returns how many resources of all kinds the group has.
func (g *Group) Len() (n int) {
	for _, m := range g.byKind {
		n += len(m)
	}
	return n
}

// Group returns the group of that name, or nil.
func (s *Set) Group(name string) *Group {
	if i := slices.IndexFunc(s.Groups, func(g *Group) bool { return g.Name == name }); i >= 0 {
		return s.Groups[i]
	}
	return nil
}

// Len returns how many different resources there are in all groups.
func (s *Set) Len() int {
	seen := make(map[*Resource]bool)
	for _, g := range s.Groups {
		for k := range g.byKind {
			for _, r := range g.byKind[k] {
				seen[r] = true
			}
		}
	}
	return len(seen)
}

// clusterRefs are what a cluster says of others.
func clusterRefs(c *snapshot.ClusterSettings) (r refs) {
	if c.Discovery == snapshot.EDS {
		if r.assignment = c.Service; r.assignment == "" {
			r.assignment = c.Name
		}
	}
	r.secret(c.TLS)
	return r
}

// listenerRefs are what a listener says of others.
func listenerRefs(l *snapshot.Listener) (r refs) {
	if !l.PicksPort() {
		r.address = l.Address
	}
	for face := range l.Faces {
		if face.Inline != nil {
			r.clusters = append(r.clusters, face.Inline.Clusters...)
		} else if face.RouteName != "" && !slices.Contains(r.tables, face.RouteName) {
			r.tables = append(r.tables, face.RouteName)
		}
		r.secret(face.TLS)
	}
	slices.Sort(r.clusters)
	r.clusters = slices.Compact(r.clusters)
	return r
}

// secret adds the secrets that t, which may be nil, asks for on the same stream.
func (r *refs) secret(t *snapshot.TLS) {
	for ref := range t.Secrets {
		if ref.Source == (snapshot.SecretSource{}) && !slices.Contains(r.secrets, ref.Name) {
			r.secrets = append(r.secrets, ref.Name)
		}
	}
}
