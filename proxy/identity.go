package proxy

import (
	"net"
	"net/netip"
	"os"
)

// identify finds out what the server tells of itself in headers and logs.
func (s *Server) identify(o Options) {
	s.service = o.Service
	s.files.log, s.files.tel = o.Log, o.Registry
	if name, err := os.Hostname(); err == nil {
		s.hostname = name
	}
	s.address = machineAddress()
}

// machineAddress returns the first IPv4 address of this machine that others can
// reach, or an invalid one.
func machineAddress() netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}
