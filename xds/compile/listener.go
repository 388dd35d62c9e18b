package compile

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// fetchTimeout is ConfigSource.initial_fetch_timeout's default.
const fetchTimeout = 15 * time.Second

// listening compiles one listener.
type listening struct {
	*review
	out    *snapshot.Listener
	before *keptTable // the inline routes of the chain at hand as they were
	after  *keptTable // and as they are

	kept, keeps map[string]*keptTable // before and after, by chain; "" is the default one

	inspected bool // there is a tls_inspector …
	sniffed   bool // … or an http_inspector
	disabled  *at  // one of them that not every connection passes; nil: none
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
			l.ignore(p, a.GetName(), "a connection that finds no filter chain is counted, and not logged")
		}
	}
	l.out.Policies = l.metadata(m.GetMetadata(), nil, &l.out.Keys) // which filters take the place of
	l.chains(m)
	l.scopes(l.out.Name)
}

// scopes gives the own policies of a listener, or of a chain, their name.
func (l *listening) scopes(name string) {
	if b := l.out.Breaker; b != nil {
		b.Scope = "listener/" + name
	}
	if c := l.out.Cache; c != nil {
		c.Scope = "listener/" + name
	}
}

// listenerFilter takes the filters that only find out what a chain could match on.
func (l *listening) listenerFilter(f *listenerv3.ListenerFilter, p *at) {
	x, ok := l.open(f.GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return
	}
	if f.GetFilterDisabled() != nil && (x.name == tlsInspector || x.name == httpInspector) {
		l.disabled = p
	}
	switch x.name {
	case tlsInspector:
		l.inspected = true
		l.into(x, new(tlsinspectorv3.TlsInspector), p.f("typed_config"))
	case httpInspector:
		l.sniffed = true
		l.ignore(p, f.GetName(), "no filter chain matches on what it finds")
	default:
		l.refuse(p, f.GetName(), "unset it")
	}
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
