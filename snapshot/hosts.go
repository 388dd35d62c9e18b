package snapshot

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// DomainError says that two domains of a table are the same.
type DomainError struct {
	Table        string
	Host, Domain int // the second one: virtual_hosts[Host].domains[Domain]
	Value        string
	First        string // the name of the virtual host that has it already
}

// Error says what to change.
func (e *DomainError) Error() string {
	return fmt.Sprintf("virtual_hosts[%d].domains[%d]: %q already stands in virtual host %q of route table %q: every domain may stand in one place only",
		e.Host, e.Domain, e.Value, e.First, e.Table)
}

// hostIndex finds a virtual host by authority. Its keys are in lower case.
type hostIndex struct {
	exact    map[string]*VirtualHost
	suffixes []wildcards // *.foo.com, by length without the star, longest first
	prefixes []wildcards // foo.*, likewise
	other    *VirtualHost
	only     bool // there is no domain but "*"
}

// wildcards are the patterns of one length.
type wildcards struct {
	size  int
	hosts map[string]*VirtualHost
}

// Finish makes the indexes of t, which must not change afterwards. What prev, a
// finished table or nil, knows of virtual hosts whose routes are found alike is
// used again. The error joins nothing: it is the first *DomainError.
//
// A table must be finished before it is used, once, by one goroutine.
func (t *RouteTable) Finish(prev *RouteTable) error {
	if err := t.indexHosts(); err != nil {
		return err
	}
	old := make(map[string]*routeIndex)
	if prev != nil {
		for _, h := range prev.Hosts {
			old[h.Name] = h.routes
		}
	}
	for _, h := range t.Hosts {
		if h.routes == nil {
			h.routes = indexRoutes(h.Routes, old[h.Name])
			h.few = isFew(h.Routes)
		}
	}
	return nil
}

func (t *RouteTable) indexHosts() error {
	x := hostIndex{exact: make(map[string]*VirtualHost, len(t.Hosts))}
	for i, h := range t.Hosts {
		for j, raw := range h.Domains {
			d := lowerCase(raw)
			var in map[string]*VirtualHost
			switch {
			case d == "*":
				if x.other != nil {
					return &DomainError{t.Name, i, j, raw, x.other.Name}
				}
				x.other = h
				continue
			case d != "" && d[0] == '*':
				d = d[1:]
				in = ofSize(&x.suffixes, len(d))
			case d != "" && d[len(d)-1] == '*':
				d = d[:len(d)-1]
				in = ofSize(&x.prefixes, len(d))
			default:
				in = x.exact
			}
			if first, ok := in[d]; ok {
				return &DomainError{t.Name, i, j, raw, first.Name}
			}
			in[d] = h
		}
	}
	longestFirst := func(a, b wildcards) int { return cmp.Compare(b.size, a.size) }
	slices.SortFunc(x.suffixes, longestFirst)
	slices.SortFunc(x.prefixes, longestFirst)
	x.only = len(x.exact)+len(x.suffixes)+len(x.prefixes) == 0
	t.hosts = x
	return nil
}

func ofSize(all *[]wildcards, size int) map[string]*VirtualHost {
	for _, w := range *all {
		if w.size == size {
			return w.hosts
		}
	}
	w := wildcards{size, make(map[string]*VirtualHost)}
	*all = append(*all, w)
	return w.hosts
}

// Host returns the virtual host of authority, or nil when there is none. As in
// Envoy an equal domain wins over the longest *.foo.com, that over the longest
// foo.*, and "*" comes last; a star stands for at least one byte. Without an
// authority only a table of nothing but "*" has one.
func (t *RouteTable) Host(authority []byte) *VirtualHost {
	x := &t.hosts
	if x.only {
		return x.other
	}
	if authority == nil {
		return nil
	}
	if t.IgnorePort {
		authority = withoutPort(authority)
	}
	var buf [256]byte // longer ones, which no resolver knows, are allocated
	name := buf[:0]
	for _, c := range authority {
		name = append(name, lower(c))
	}
	if h, ok := x.exact[string(name)]; ok {
		return h
	}
	for _, w := range x.suffixes {
		if w.size < len(name) {
			if h, ok := w.hosts[string(name[len(name)-w.size:])]; ok {
				return h
			}
		}
	}
	for _, w := range x.prefixes {
		if w.size < len(name) {
			if h, ok := w.hosts[string(name[:w.size])]; ok {
				return h
			}
		}
	}
	return x.other
}

// withoutPort cuts off what follows the last colon, unless that stands inside
// the brackets of an IPv6 address. Envoy does not look whether it is a number.
func withoutPort(authority []byte) []byte {
	colon := bytes.LastIndexByte(authority, ':')
	if colon < 0 || bytes.LastIndexByte(authority, ']') > colon {
		return authority
	}
	return authority[:colon]
}
