package compile

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// fetchTimeout is ConfigSource.initial_fetch_timeout's default.
const fetchTimeout = 15 * time.Second

// listening compiles one listener.
type listening struct {
	*review
	out    *snapshot.Listener
	before *keptTable // its inline routes as they were
	after  *keptTable // and as they are
}

func (l *listening) listener(m *listenerv3.Listener) {
	l.out.Address = l.address(m.GetAddress(), (*at)(nil).f("address"), false)
	if l.out.Name == "" { // only from a bootstrap
		l.out.Name = l.out.Address
	}
	l.out.Role = snapshot.Outbound
	if m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND {
		l.out.Role = snapshot.Inbound
	}
	l.out.TCP.BufferLimit = m.GetPerConnectionBufferLimitBytes().GetValue()
	for i, o := range m.GetSocketOptions() {
		one := snapshot.SocketOption{Level: int(o.GetLevel()), Name: int(o.GetName()), Int: int(o.GetIntValue())}
		if _, ok := o.GetValue().(*corev3.SocketOption_BufValue); ok {
			one.Bytes = append([]byte{}, o.GetBufValue()...)
		}
		if one.Level < 0 || one.Name < 0 || int64(int32(one.Int)) != o.GetIntValue() {
			l.fail((*at)(nil).i("socket_options", i), "", "is out of the range of an int")
		}
		l.out.TCP.Options = append(l.out.TCP.Options, one)
	}
	for i, f := range m.GetListenerFilters() {
		l.listenerFilter(f, (*at)(nil).i("listener_filters", i))
	}
	for i, a := range m.GetAccessLog() {
		// It logs connections; those that find no filter chain are all it is for
		// when it asks for a flag, and here there are none.
		p := (*at)(nil).i("access_log", i)
		if l.accessLog(a, p); a.GetFilter() == nil {
			l.refuse(p, a.GetName(), "log requests with access_log of the connection manager")
		} else {
			l.ignore(p, a.GetName(), "every connection finds the filter chain")
		}
	}
	l.out.Policies = l.metadata(m.GetMetadata(), nil, &l.out.Keys) // which filters take the place of
	l.chain(m)
	l.scopes()
}

// scopes gives the listener's own policies its name.
func (l *listening) scopes() {
	if b := l.out.Breaker; b != nil {
		b.Scope = "listener/" + l.out.Name
	}
	if c := l.out.Cache; c != nil {
		c.Scope = "listener/" + l.out.Name
	}
}

// listenerFilter takes the filters that only find out what a chain could match on.
func (l *listening) listenerFilter(f *listenerv3.ListenerFilter, p *at) {
	x, ok := l.open(f.GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return
	}
	switch x.name {
	case "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector":
		l.ignore(p, f.GetName(), "no filter chain matches on what it finds")
	default:
		l.refuse(p, f.GetName(), "unset it")
	}
}

// chain finds the one filter chain and compiles its connection manager.
func (l *listening) chain(m *listenerv3.Listener) {
	chain, p := m.GetDefaultFilterChain(), (*at)(nil).f("default_filter_chain")
	switch len(m.GetFilterChains()) {
	case 0:
		if chain == nil {
			l.fail((*at)(nil).f("filter_chains"), "add one with an HTTP connection manager", "no filter chains specified")
			return
		}
	case 1:
		if chain != nil {
			l.ignore(p, "a chain", "the other chain takes every connection")
		}
		chain, p = m.GetFilterChains()[0], (*at)(nil).i("filter_chains", 0)
	default:
		l.fail((*at)(nil).i("filter_chains", 1), "use one filter chain", "multiple filter chains with overlapping matching rules are defined")
		return
	}
	l.socket(chain.GetTransportSocket(), p.f("transport_socket"))
	var found bool
	for i, f := range chain.GetFilters() {
		at := p.i("filters", i)
		x, ok := l.open(f.GetTypedConfig(), at.f("typed_config"))
		switch {
		case !ok:
		case x.name == manager:
			m := new(hcmv3.HttpConnectionManager)
			switch {
			case found:
				l.fail(at, "", "a filter chain has one HTTP connection manager")
			case i != len(chain.GetFilters())-1:
				l.fail(at, "", "terminal filter named %s of type %s must be the last filter in a network filter chain", f.GetName(), manager)
			case l.into(x, m, at.f("typed_config")):
				l.manager(m, at.f("typed_config"))
			}
			found = true
		case tolerated(f.GetName(), x.name):
			l.ignore(at, f.GetName(), "it only counts")
		default:
			l.refuse(at, nameOf(f.GetName(), x), "a listener has an HTTP connection manager and nothing else")
		}
	}
	if !found && !l.failed() {
		l.fail(p.f("filters"), "add an HTTP connection manager", "there is no HTTP connection manager")
	}
}

// socket takes plain text only.
func (r *review) socket(s *corev3.TransportSocket, p *at) {
	if s == nil {
		return
	}
	if x, ok := r.open(s.GetTypedConfig(), p.f("typed_config")); ok &&
		(x.name == "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" || x.name == "" && s.GetName() == "envoy.transport_sockets.raw_buffer") {
		return
	}
	r.refuse(p, s.GetName(), "connections are plain text: unset it, or use envoy.transport_sockets.raw_buffer")
}

// tolerated are Istio's own filters, which its servers send to everyone and mark
// as optional for nobody. They only count, and name peers to one another.
func tolerated(name, typ string) bool {
	switch name {
	case "istio.metadata_exchange", "istio.stats", "istio.peer_metadata", "istio.alpn":
		return true
	}
	return strings.HasPrefix(typ, "io.istio.http.peer_metadata.") || typ == "envoy.tcp.metadataexchange.config.MetadataExchange" || typ == "stats.PluginConfig"
}

// nameOf is what an extension goes by in an error.
func nameOf(name string, x extension) string {
	if name == "" {
		return x.name
	}
	return name
}

// fetch checks that a resource is asked for on the same stream and returns how
// long it may take.
func (r *review) fetch(c *corev3.ConfigSource, p *at) time.Duration {
	if c.GetAds() == nil && c.GetSelf() == nil {
		r.fail(p, "use ads", "names no source")
	}
	return r.duration(c.GetInitialFetchTimeout(), p.f("initial_fetch_timeout"), fetchTimeout)
}
