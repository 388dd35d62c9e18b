package control

import (
	"maps"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// streamID tells streams apart: each variant counts its own.
type streamID struct {
	delta bool
	id    int64
}

func (s streamID) variant() string {
	if s.delta {
		return "delta"
	}
	return "sotw"
}

// stream is one open stream of a node.
type stream struct {
	streamID

	peer   string
	opened time.Time
	node   *node // nil before the first request
	group  string
	kinds  [kinds]subscription
}

// subscription is what a stream has of one kind.
type subscription struct {
	asked  bool
	names  map[string]bool // asked for by name
	held   holds
	sent   map[string]string // state of the world: the version of each resource that the client has
	unsaid []sent            // responses without an answer, the oldest first
	fired  bool              // a response is made and not sent yet
	open   *watch
}

// maxUnsaid bounds the responses of a kind that wait for their answers. An
// honest client has one or two.
const maxUnsaid = 16

// sent is a response.
type sent struct {
	nonce string
	items []item
}

type item struct{ name, version string }

// answered takes the response with that nonce, and those before it.
func (s *subscription) answered(nonce string) (sent, bool) {
	for i, r := range s.unsaid {
		if r.nonce == nonce {
			s.unsaid = append([]sent(nil), s.unsaid[i+1:]...)
			return r, true
		}
	}
	return sent{}, false
}

// watch is a request that has no response yet. Its cache responds into a channel
// of its own, so that it is known whether it has: one that has not can be moved
// to another lane.
type watch struct {
	stream *stream
	kind   Kind
	sub    cache.Subscription
	lane   *lane
	cancel func()

	request  *cache.Request // state of the world, or
	response chan cache.Response
	in       chan cache.Response

	deltaRequest  *cache.DeltaRequest // delta
	deltaResponse chan cache.DeltaResponse
	deltaIn       chan cache.DeltaResponse
}

// start asks the lane. first is set on a stream's first request of the kind.
func (w *watch) start(l *lane, first bool) (err error) {
	w.lane = l
	if w.deltaRequest != nil {
		w.deltaIn = make(chan cache.DeltaResponse, 1)
		w.cancel, err = l.cache.CreateDeltaWatch(w.deltaRequest, w.sub, w.deltaIn)
		return err
	}
	w.in = make(chan cache.Response, 1)
	r := &cache.Request{Node: w.request.GetNode(), TypeUrl: w.request.GetTypeUrl(), ResourceNames: w.request.GetResourceNames()}
	if !first {
		// The cache answers a request without a version at once, and a client has
		// none until it has accepted something: that is how NACKs run in circles.
		r.VersionInfo = l.prefix
	}
	w.cancel, err = l.cache.CreateWatch(r, w.known(), w.in)
	return err
}

// stop ends a watch without a response.
func (w *watch) stop() {
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
}

// forward passes a response on and reports whether there was one.
func (w *watch) forward() bool {
	select {
	case r := <-w.in:
		w.response <- r
	case r := <-w.deltaIn:
		w.deltaResponse <- r
	default:
		return false
	}
	return true
}

// known is the subscription as the lane's cache needs to see it: what the client
// has of the lane's content has the cache's version, whichever lane it came
// from.
func (w *watch) known() cache.Subscription {
	has := &w.stream.kinds[w.kind]
	returned := make(map[string]string)
	for name := range w.sub.ReturnedResources() {
		version, ok := has.sent[name]
		if !ok {
			continue
		}
		returned[name] = "" // of none: to be sent, or gone
		if c := w.lane.content[name]; c != nil && c.Version == version {
			returned[name] = w.lane.linear[name]
		}
	}
	return knowing{w.sub, returned}
}

// knowing is a subscription with other returned resources.
type knowing struct {
	cache.Subscription

	returned map[string]string
}

// ReturnedResources implements cache.Subscription.
func (k knowing) ReturnedResources() map[string]string { return maps.Clone(k.returned) }

// describe returns what a node says of itself.
func describe(n *core.Node) (id, cluster, agent string) {
	agent = n.GetUserAgentName()
	if v := n.GetUserAgentVersion(); v != "" {
		agent += " " + v
	} else if b := n.GetUserAgentBuildVersion().GetVersion(); b != nil {
		agent += " " + dotted(b.GetMajorNumber(), b.GetMinorNumber(), b.GetPatch())
	}
	return n.GetId(), n.GetCluster(), agent
}
