package control

import (
	"fmt"
	"path"
	"time"
)

const (
	maxNodes   = 10_000    // that are remembered
	forgetNode = time.Hour // after its last stream
	maxReason  = 4 << 10   // bytes of a rejection that are kept
)

// node is what is known of a node. Streams of the same id are one node.
type node struct {
	id, cluster, agent string
	group              string
	variant, peer      string // of its newest stream
	streams            int
	since, seen        time.Time
	kinds              [kinds]nodeKind
}

// nodeKind is what a node did with the resources of a kind.
type nodeKind struct {
	acks, nacks       uint64
	lastACK, lastNACK time.Time
	resources         map[string]*nodeResource
}

// nodeResource is where a resource stands on a node.
type nodeResource struct {
	sent, accepted, rejected string // versions
	reason                   string
	nacks                    uint64 // of rejected
	at                       time.Time
}

func (n *node) resource(k Kind, name string) *nodeResource {
	if n.kinds[k].resources == nil {
		n.kinds[k].resources = make(map[string]*nodeResource)
	}
	r := n.kinds[k].resources[name]
	if r == nil {
		r = new(nodeResource)
		n.kinds[k].resources[name] = r
	}
	return r
}

// accepted returns the version of a resource that the node accepted last.
func (n *node) accepted(k Kind, name string) string {
	if r := n.kinds[k].resources[name]; r != nil {
		return r.accepted
	}
	return ""
}

// groupOf returns which of the groups a node belongs to: one that is called like
// its id, else like its cluster, else the first whose name is a pattern of
// either, else the one without a name.
func groupOf(names []string, id, cluster string) string {
	for _, want := range []string{id, cluster} {
		for _, name := range names {
			if name != "" && name == want {
				return name
			}
		}
	}
	for _, name := range names {
		for _, of := range []string{id, cluster} {
			if ok, err := path.Match(name, of); err == nil && ok && of != "" {
				return name
			}
		}
	}
	return ""
}

func dotted(a, b, c uint32) string { return fmt.Sprintf("%d.%d.%d", a, b, c) }
