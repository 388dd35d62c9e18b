package compile

import (
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// upgradeConfig is an entry of upgrade_configs, of a listener or of a route.
type upgradeConfig interface {
	GetUpgradeType() string
	GetEnabled() *wrapperspb.BoolValue
}

// upgrade adds u to those known, which may be nil.
func (r *review) upgrade(known map[string]bool, u upgradeConfig, p *at) map[string]bool {
	if known == nil {
		known = make(map[string]bool)
	}
	name := strings.ToLower(u.GetUpgradeType())
	if name == "connect" || name == "connect-udp" {
		r.refuse(p.f("upgrade_type"), u.GetUpgradeType(), "no tunnel is made by CONNECT: unset it")
	}
	if _, twice := known[name]; twice {
		r.fail(p.f("upgrade_type"), "", "Duplicate upgrade %s", u.GetUpgradeType())
	}
	known[name] = u.GetEnabled() == nil || u.GetEnabled().GetValue()
	return known
}

// prefixes compiles cidr_ranges at p.
func (r *review) prefixes(ranges []*corev3.CidrRange, p *at) (out []netip.Prefix) {
	for i, c := range ranges {
		at := p.i("cidr_ranges", i)
		a, err := netip.ParseAddr(c.GetAddressPrefix())
		if err != nil {
			r.fail(at.f("address_prefix"), "", "malformed IP address: %s", c.GetAddressPrefix())
			continue
		}
		// More bits than there are mean all of them, as in Envoy.
		out = append(out, netip.PrefixFrom(a, min(int(c.GetPrefixLen().GetValue()), a.BitLen())).Masked())
	}
	return out
}
