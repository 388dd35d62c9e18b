package control

import (
	"strings"
	"time"
)

// Status is what /status says.
type Status struct {
	Config ConfigStatus  `json:"config"`
	Groups []GroupStatus `json:"groups"`
	Nodes  []NodeStatus  `json:"nodes"`
}

// ConfigStatus is about the directory.
type ConfigStatus struct {
	Dir       string     `json:"dir"`
	Loaded    time.Time  `json:"loaded"` // when what is served was read
	Reloads   uint64     `json:"reloads"`
	Errors    []string   `json:"errors,omitempty"` // why the newest files are not served
	Failing   *time.Time `json:"failing_since,omitempty"`
	Resources int        `json:"resources"`
	Warnings  []string   `json:"warnings,omitempty"`
}

// GroupStatus is one group of nodes.
type GroupStatus struct {
	Name      string          `json:"name"` // "": every node that no other group is for
	Nodes     int             `json:"nodes"`
	Resources map[string]int  `json:"resources"` // by API
	Rejected  []RejectedInUse `json:"rejected,omitempty"`
}

// RejectedInUse is a resource of the directory that a node has rejected.
type RejectedInUse struct {
	API     string `json:"api"`
	Name    string `json:"name"`
	Where   string `json:"where"`
	Version string `json:"version"`
	Nodes   int    `json:"nodes"` // how many have rejected it
	Node    string `json:"node"`  // the first of them, and
	Reason  string `json:"reason"`
	Instead string `json:"instead,omitempty"` // what newcomers get; "": that version, as none was accepted before
}

// NodeStatus is one node.
type NodeStatus struct {
	ID        string         `json:"id"`
	Cluster   string         `json:"cluster,omitempty"`
	Group     string         `json:"group,omitempty"`
	Agent     string         `json:"user_agent,omitempty"`
	Peer      string         `json:"peer,omitempty"`
	Variant   string         `json:"variant"`
	Streams   int            `json:"streams"` // open ones
	Since     time.Time      `json:"since"`   // of the first of them
	Seen      time.Time      `json:"last_seen"`
	APIs      []NodeAPI      `json:"apis"`
	Resources []NodeResource `json:"resources,omitempty"`
}

// NodeAPI is what a node did with the resources of a kind.
type NodeAPI struct {
	API      string     `json:"api"`
	Accepted int        `json:"accepted"` // resources, at the version that was sent last
	Rejected int        `json:"rejected"`
	Pending  int        `json:"pending"` // sent, and not answered yet
	ACKs     uint64     `json:"acks"`
	NACKs    uint64     `json:"nacks"`
	LastACK  *time.Time `json:"last_ack,omitempty"`
	LastNACK *time.Time `json:"last_nack,omitempty"`
}

// NodeResource is where a resource stands on a node.
type NodeResource struct {
	API      string    `json:"api"`
	Name     string    `json:"name"`
	State    string    `json:"state"` // sent, accepted, rejected
	Since    time.Time `json:"since"`
	Sent     string    `json:"version_sent,omitempty"`
	Accepted string    `json:"version_accepted,omitempty"`
	Rejected string    `json:"version_rejected,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	NACKs    uint64    `json:"nacks,omitempty"` // of that version
	Where    string    `json:"where,omitempty"`
}

// Status returns where everything stands. Of the resources of nodes only those
// that were rejected are in it, unless node is set: then it is about that node
// alone and has them all.
func (s *Server) Status(only string) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{
		Config: ConfigStatus{Dir: s.dir, Loaded: s.loaded, Reloads: s.counts.reloads, Errors: lines(s.problem), Failing: when(s.failing), Resources: s.set.Len(), Warnings: s.set.Warnings},
		Nodes:  []NodeStatus{},
	}
	nodes := make(map[string]int)
	for _, id := range sortedKeys(s.nodes) {
		n := s.nodes[id]
		if n.streams > 0 {
			nodes[n.group]++
		}
		if only == "" || only == id {
			out.Nodes = append(out.Nodes, s.nodeStatus(n, only != ""))
		}
	}
	for _, name := range sortedKeys(s.groups) {
		g := GroupStatus{Name: name, Nodes: nodes[name], Resources: make(map[string]int)}
		for _, k := range Kinds() {
			history := s.groups[name].history[k]
			g.Resources[k.String()] = len(history)
			for _, r := range sortedKeys(history) {
				h := history[r]
				if h.bad == nil {
					continue
				}
				bad := RejectedInUse{API: k.String(), Name: r, Where: h.latest.Where, Version: h.latest.Version, Nodes: len(h.bad.nodes), Node: h.bad.node, Reason: h.bad.reason}
				if last := h.last(); last != nil {
					bad.Instead = last.Version
				}
				g.Rejected = append(g.Rejected, bad)
			}
		}
		out.Groups = append(out.Groups, g)
	}
	return out
}

func (s *Server) nodeStatus(n *node, all bool) NodeStatus {
	out := NodeStatus{
		ID: n.id, Cluster: n.cluster, Group: n.group, Agent: n.agent, Peer: n.peer, Variant: n.variant, Streams: n.streams,
		Since: n.since, Seen: n.seen, APIs: []NodeAPI{},
	}
	for _, k := range Kinds() {
		of := &n.kinds[k]
		api := NodeAPI{API: k.String(), ACKs: of.acks, NACKs: of.nacks, LastACK: when(of.lastACK), LastNACK: when(of.lastNACK)}
		for _, name := range sortedKeys(of.resources) {
			r := of.resources[name]
			state := r.state()
			switch state {
			case stateRejected:
				api.Rejected++
			case stateAccepted:
				api.Accepted++
			default:
				api.Pending++
			}
			if all || state == stateRejected {
				out.Resources = append(out.Resources, NodeResource{
					API: k.String(), Name: name, State: state, Since: r.at, Sent: r.sent, Accepted: r.accepted, Rejected: r.rejected,
					Reason: r.reason, NACKs: r.nacks, Where: s.where(n.group, k, name),
				})
			}
		}
		if of.acks+of.nacks > 0 || len(of.resources) > 0 {
			out.APIs = append(out.APIs, api)
		}
	}
	return out
}

const (
	stateSent     = "sent"
	stateAccepted = "accepted"
	stateRejected = "rejected"
)

func (r *nodeResource) state() string {
	switch r.sent {
	case r.rejected:
		return stateRejected
	case r.accepted:
		return stateAccepted
	}
	return stateSent
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// lines returns the errors that err joins.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
