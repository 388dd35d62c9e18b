package compile

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// The transport protocols that a chain can match on.
const (
	transportTLS = "tls"
	transportRaw = "raw_buffer"
)

const (
	tlsInspector  = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
	httpInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
)

// chains compiles the filter chains of m. The one that takes every connection, or
// the default one, is the listener itself.
func (l *listening) chains(m *listenerv3.Listener) {
	others, base, p := m.GetFilterChains(), m.GetDefaultFilterChain(), (*at)(nil).f("default_filter_chain")
	if len(others) == 0 && base == nil {
		l.fail((*at)(nil).f("filter_chains"), "add one with an HTTP connection manager", "no filter chains specified")
		return
	}
	matches := make([]snapshot.ChainMatch, len(others))
	for i, c := range others {
		matches[i] = l.match(c.GetFilterChainMatch(), (*at)(nil).i("filter_chains", i).f("filter_chain_match"))
	}
	if l.disabled != nil && slices.ContainsFunc(others, asksTLS) {
		l.refuse(l.disabled.f("filter_disabled"), "{…}", "unset it: filter chains match on what the filter tells")
	}
	if len(others) == 1 && everything(&matches[0]) {
		if base != nil {
			l.ignore(p, "a chain", "the other chain takes every connection")
		}
		base, p, others = others[0], (*at)(nil).i("filter_chains", 0), nil
	}
	seen, names := make(map[string]int), make(map[string]bool)
	for i, c := range others {
		at := (*at)(nil).i("filter_chains", i)
		for _, rule := range rules(&matches[i]) {
			if j, twice := seen[rule]; twice {
				l.overlap(others, j, i)
				return
			}
			seen[rule] = i
		}
		name := cmp.Or(c.GetName(), matched(&matches[i]))
		for n := 2; names[name]; n++ {
			name = cmp.Or(c.GetName(), matched(&matches[i])) + "#" + strconv.Itoa(n)
		}
		names[name] = true
		own := &listening{review: l.review, before: l.kept[name], out: &snapshot.Listener{
			Role: l.out.Role, Keys: l.out.Keys, Policies: clonePolicies(l.out.Policies),
		}}
		own.chain(c, at)
		own.scopes(l.out.Name + "/" + name)
		l.keep(name, own.after)
		if asksTLS(c) && !l.inspected {
			l.ignore(at.f("filter_chain_match"), name, "no connection finds the chain: add envoy.filters.listener.tls_inspector, which tells what it matches on")
			continue
		}
		l.out.Chains = append(l.out.Chains, &snapshot.Chain{Name: name, Match: matches[i], Listener: own.out})
	}
	if base == nil {
		l.out.NoDefault = true
		return
	}
	l.before = l.kept[""]
	l.chain(base, p)
	l.keep("", l.after)
}

// keep has the inline routes of a chain compared the next time.
func (l *listening) keep(chain string, t *keptTable) {
	if t == nil {
		return
	}
	if l.keeps == nil {
		l.keeps = make(map[string]*keptTable)
	}
	l.keeps[chain] = t
}

// clonePolicies copies what gets a scope of its own.
func clonePolicies(p snapshot.Policies) snapshot.Policies {
	if p.Breaker != nil {
		p.Breaker = new(*p.Breaker)
	}
	if p.Cache != nil {
		p.Cache = new(*p.Cache)
	}
	return p
}

// overlap refuses two chains that want the same connections.
func (l *listening) overlap(chains []*listenerv3.FilterChain, i, j int) {
	p := (*at)(nil).i("filter_chains", j).f("filter_chain_match")
	if bytes.Equal(canonical(chains[i].GetFilterChainMatch()), canonical(chains[j].GetFilterChainMatch())) {
		l.fail(p, "give each chain another match", "filter chain '%s' has the same matching rules defined as '%s'", chains[j].GetName(), chains[i].GetName())
		return
	}
	l.fail(p, "give each chain another match", "multiple filter chains with overlapping matching rules are defined: filter_chains[%d] has one of these, too", i)
}

// asksTLS reports whether a chain matches on what only a ClientHello tells. Without a
// tls_inspector nobody reads it, in Envoy.
func asksTLS(c *listenerv3.FilterChain) bool {
	m := c.GetFilterChainMatch()
	return m.GetTransportProtocol() == transportTLS || len(m.GetServerNames())+len(m.GetApplicationProtocols()) > 0
}

// match compiles filter_chain_match. Where no tls_inspector looks whether a connection
// begins with TLS every one is raw_buffer.
func (l *listening) match(m *listenerv3.FilterChainMatch, p *at) snapshot.ChainMatch {
	out := snapshot.ChainMatch{Port: m.GetDestinationPort().GetValue(), Transport: m.GetTransportProtocol(), Applications: m.GetApplicationProtocols()}
	switch out.Transport {
	case "", transportTLS:
	case transportRaw:
		if !l.inspected {
			out.Transport = ""
		}
	default:
		l.refuse(p.f("transport_protocol"), out.Transport, "use tls or raw_buffer")
	}
	for i, name := range m.GetServerNames() {
		if name == "" || strings.Contains(strings.TrimPrefix(name, "*."), "*") {
			l.fail(p.i("server_names", i), "use a name, or *.example.com", "partial wildcards are not supported in \"server_names\"")
			continue
		}
		out.ServerNames = append(out.ServerNames, name)
	}
	if l.sniffed && len(out.Applications) > 0 && out.Transport != transportTLS {
		l.refuse(p.f("application_protocols"), strconv.Itoa(len(out.Applications))+" of them", `match on transport_protocol "tls" as well: the protocol of plain text is told after the chain is chosen`)
	}
	return out
}

// everything reports whether m matches every connection.
func everything(m *snapshot.ChainMatch) bool {
	return m.Port == 0 && m.Transport == "" && len(m.ServerNames)+len(m.Applications) == 0
}

// rules lists the single rules that m stands for: two chains may not have one in
// common.
func rules(m *snapshot.ChainMatch) (out []string) {
	names, apps := m.ServerNames, m.Applications
	if len(names) == 0 {
		names = []string{""}
	}
	if len(apps) == 0 {
		apps = []string{""}
	}
	for _, name := range names {
		for _, app := range apps {
			out = append(out, strings.Join([]string{strconv.FormatUint(uint64(m.Port), 10), name, m.Transport, app}, "\x00"))
		}
	}
	return out
}

// matched names a chain without a name by what it matches, which is its own.
func matched(m *snapshot.ChainMatch) string {
	var parts []string
	if m.Port != 0 {
		parts = append(parts, ":"+strconv.FormatUint(uint64(m.Port), 10))
	}
	parts = append(parts, m.ServerNames...)
	if m.Transport != "" {
		parts = append(parts, m.Transport)
	}
	parts = append(parts, m.Applications...)
	return cmp.Or(strings.Join(parts, ","), "any")
}

// chain compiles a filter chain: its transport socket and its connection manager.
func (l *listening) chain(chain *listenerv3.FilterChain, p *at) {
	l.out.TLS = l.socket(chain.GetTransportSocket(), downstreamTLS, p.f("transport_socket"))
	l.out.Handshake = l.duration(chain.GetTransportSocketConnectTimeout(), p.f("transport_socket_connect_timeout"), 0)
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
			l.refuse(at, nameOf(f.GetName(), x), "a filter chain has an HTTP connection manager and nothing else")
		}
	}
	if !found && !l.failed() {
		l.fail(p.f("filters"), "add an HTTP connection manager", "there is no HTTP connection manager")
	}
}
