package control

import (
	"slices"
	"strconv"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// history is what became of one resource of a group.
type history struct {
	latest   *Resource   // what the directory says
	accepted []*Resource // versions that a node accepted and none rejected, the newest last
	bad      *verdict    // why latest is not given to newcomers; nil: it is
}

// maxAccepted bounds the accepted versions that are kept of a resource.
const maxAccepted = 3

// verdict is the first rejection of a version.
type verdict struct {
	node, reason string
	nodes        map[string]bool // who rejected it
	local        bool            // for what is of the nodes alone: others get it
}

// accept notes that a node accepted r.
func (h *history) accept(r *Resource) {
	if n := len(h.accepted); h.bad != nil && r.Version == h.latest.Version || n > 0 && h.accepted[n-1].Version == r.Version {
		return
	}
	h.accepted = slices.DeleteFunc(h.accepted, func(a *Resource) bool { return a.Version == r.Version })
	h.accepted = append(h.accepted, r)
	if len(h.accepted) > maxAccepted {
		h.accepted = slices.Delete(h.accepted, 0, 1)
	}
}

// reject notes that a node rejected version; local is for what is of the node
// alone.
func (h *history) reject(version, node, reason string, local bool) {
	h.accepted = slices.DeleteFunc(h.accepted, func(a *Resource) bool { return a.Version == version })
	if h.latest.Version != version {
		return
	}
	if h.bad == nil {
		h.bad = &verdict{node: node, reason: reason, nodes: make(map[string]bool), local: local}
	}
	h.bad.local = h.bad.local && local
	if len(h.bad.nodes) < maxNodes {
		h.bad.nodes[node] = true
	}
}

// last returns the last accepted version, or nil.
func (h *history) last() *Resource {
	if len(h.accepted) == 0 {
		return nil
	}
	return h.accepted[len(h.accepted)-1]
}

// find returns the version with these bytes or that hash, or nil.
func (h *history) find(version string) *Resource {
	if h.latest.Version == version {
		return h.latest
	}
	for _, r := range h.accepted {
		if r.Version == version {
			return r
		}
	}
	return nil
}

// holds are the versions that a stream is not to get: for them it gets the last
// accepted ones. By the resource's name.
type holds map[string]string

// key returns h as a lane's key.
func (h holds) key() string {
	if len(h) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range sortedKeys(h) {
		b.WriteString(strconv.Quote(name))
		b.WriteString(h[name])
	}
	return b.String()
}

// laneKey names a lane.
type laneKey struct {
	group string
	kind  Kind
	holds string
}

// lane is the resources of a kind that some streams of a group get.
type lane struct {
	key    laneKey
	holds  holds
	cache  *cache.LinearCache
	prefix string // of its versions

	content map[string]*Resource
	linear  map[string]string // the cache's own version of each
	updates uint64            // how often the cache has changed
}

// newLane returns an empty lane. No two lanes of all servers have the same
// versions.
func newLane(key laneKey, h holds, prefix string) *lane {
	return &lane{
		key: key, holds: h, prefix: prefix,
		cache:   cache.NewLinearCache(key.kind.TypeURL(), cache.WithVersionPrefix(prefix)),
		content: make(map[string]*Resource), linear: make(map[string]string),
	}
}

// wants returns what the lane is to have under a name; nil: nothing.
func (l *lane) wants(h *history) *Resource {
	if h == nil {
		return nil
	}
	if v, held := l.holds[h.latest.Name]; held && v == h.latest.Version {
		return h.last()
	}
	return h.latest
}

// update brings the lane's names up to date.
func (l *lane) update(names []string, of map[string]*history) error {
	set, gone := make(map[string]types.Resource), []string(nil)
	for _, name := range names {
		have, want := l.content[name], l.wants(of[name])
		switch {
		case want == nil && have == nil, want != nil && have != nil && want.Version == have.Version:
		case want == nil:
			gone = append(gone, name)
			delete(l.content, name)
			delete(l.linear, name)
		default:
			set[name] = want.Message
			l.content[name] = want
		}
	}
	if len(set) == 0 && len(gone) == 0 {
		return nil
	}
	l.updates++
	for name := range set {
		l.linear[name] = l.prefix + strconv.FormatUint(l.updates, 10)
	}
	return l.cache.UpdateResources(set, gone)
}
