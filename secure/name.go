package secure

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/quadnine/quadnine/snapshot"
)

var nameKinds = []snapshot.NameKind{snapshot.NameURI, snapshot.NameDNS, snapshot.NameIP, snapshot.NameEmail}

// namesOf lists a certificate's names for people.
func namesOf(c *x509.Certificate) string {
	all := make([]string, 0, 4)
	for _, kind := range nameKinds {
		all = append(all, namesIn(c, kind)...)
	}
	if len(all) == 0 {
		return fmt.Sprintf("subject %q", c.Subject)
	}
	return strings.Join(all, ", ")
}

func namesIn(c *x509.Certificate, kind snapshot.NameKind) []string {
	var all []string
	switch kind {
	case snapshot.NameDNS:
		return c.DNSNames
	case snapshot.NameEmail:
		return c.EmailAddresses
	case snapshot.NameURI:
		for _, u := range c.URIs {
			all = append(all, u.String())
		}
	case snapshot.NameIP:
		for _, ip := range c.IPAddresses {
			all = append(all, ip.String())
		}
	}
	return all
}

// named reports whether m matches a name of c.
func named(c *x509.Certificate, m snapshot.NameMatcher) bool {
	for _, kind := range nameKinds {
		if m.Kind != snapshot.NameAny && m.Kind != kind {
			continue
		}
		dns := kind == snapshot.NameDNS
		if slices.ContainsFunc(namesIn(c, kind), func(name string) bool { return m.Match(name, dns) }) {
			return true
		}
	}
	return false
}
