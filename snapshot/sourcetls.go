package snapshot

import (
	"slices"
	"strings"
	"time"
)

// SourceTLS is what flags say of TLS.
type SourceTLS struct {
	Cert, Key   string   // files of the listener's own certificate
	ClientCA    string   // file: callers need a certificate of one of these
	ClientNames []string // that it may be for: exact, or "prefix*"

	UpstreamCA    string // file; "": the system's
	UpstreamCert  string // files of the certificate that endpoints are shown
	UpstreamKey   string
	UpstreamSNI   string   // "": each endpoint's host
	UpstreamNames []string // that their certificate may be for, instead of the SNI
}

// listener returns what s says of callers' connections; nil: plain text.
func (s *SourceTLS) listener(bad func(string, string, ...any)) *TLS {
	switch {
	case s.Cert != "" && s.Key == "":
		bad("--tls-key", "is missing: --tls-cert needs the key that belongs to it")
	case s.Key != "" && s.Cert == "":
		bad("--tls-cert", "is missing: --tls-key needs the certificate that it belongs to")
	}
	if s.ClientCA != "" && s.Cert == "" && s.Key == "" {
		bad("--tls-client-ca", "needs --tls-cert and --tls-key: callers show certificates over TLS only")
	}
	if len(s.ClientNames) > 0 && s.ClientCA == "" {
		bad("--tls-client-san", "needs --tls-client-ca: without it anybody could claim a name")
	}
	names := matchers("--tls-client-san", s.ClientNames, bad)
	if s.Cert == "" {
		return nil
	}
	t := &TLS{Certificates: []Certificate{{Chain: PEM{Path: s.Cert}, Key: PEM{Path: s.Key}}}}
	if s.ClientCA != "" {
		t.RequireClient = true
		t.Validation = &Validation{Roots: PEM{Path: s.ClientCA}, Names: names, Depth: -1}
	}
	return t
}

// upstream returns what s says of connections to endpoints; asked is whether there
// are any with https.
func (s *SourceTLS) upstream(asked bool, bad func(string, string, ...any)) *TLS {
	for flag, set := range map[string]bool{
		"--upstream-tls-ca": s.UpstreamCA != "", "--upstream-tls-cert": s.UpstreamCert != "", "--upstream-tls-key": s.UpstreamKey != "",
		"--upstream-tls-san": len(s.UpstreamNames) > 0, "--upstream-sni": s.UpstreamSNI != "",
	} {
		if set && !asked {
			bad(flag, "has no effect without an https:// upstream or peer")
		}
	}
	switch {
	case s.UpstreamCert != "" && s.UpstreamKey == "":
		bad("--upstream-tls-key", "is missing: --upstream-tls-cert needs the key that belongs to it")
	case s.UpstreamKey != "" && s.UpstreamCert == "":
		bad("--upstream-tls-cert", "is missing: --upstream-tls-key needs the certificate that it belongs to")
	}
	names := matchers("--upstream-tls-san", s.UpstreamNames, bad)
	if !asked {
		return nil
	}
	t := &TLS{
		SNI: s.UpstreamSNI, SNIFromHost: s.UpstreamSNI == "", VerifySNI: len(names) == 0,
		Validation: &Validation{Roots: PEM{Path: s.UpstreamCA}, SystemRoots: s.UpstreamCA == "", Names: names, Depth: -1},
	}
	if s.UpstreamCert != "" {
		t.Certificates = []Certificate{{Chain: PEM{Path: s.UpstreamCert}, Key: PEM{Path: s.UpstreamKey}}}
	}
	return t
}

// matchers reads names of certificates as flags give them: all of a name, or its
// beginning and a star.
func matchers(flag string, names []string, bad func(string, string, ...any)) []NameMatcher {
	var out []NameMatcher
	for _, n := range names {
		want, prefix := strings.CutSuffix(n, "*")
		if want == "" || strings.Contains(want, "*") {
			bad(flag, "%q is no name: write all of it, like spiffe://example.org/ns/shop/sa/cart, or its beginning and a star", n)
			continue
		}
		m := NameMatcher{Kind: NameDNS, Text: n}
		if strings.Contains(want, "://") {
			m.Kind = NameURI
		}
		m.Match = func(name string, _ bool) bool { return name == want || prefix && strings.HasPrefix(name, want) }
		if m.Kind == NameDNS { // case does not matter (RFC 4343)
			m.Match = func(name string, _ bool) bool {
				return strings.EqualFold(name, want) || prefix && len(name) >= len(want) && strings.EqualFold(name[:len(want)], want)
			}
		}
		out = append(out, m)
	}
	return out
}

// https sorts out which of urls ask for TLS; all of a cluster's do or none.
func https(flag string, urls []string, bad func(string, string, ...any)) bool {
	is := func(u string) bool { return strings.HasPrefix(strings.ToLower(u), "https://") }
	all, some := !slices.ContainsFunc(urls, func(u string) bool { return !is(u) }), slices.ContainsFunc(urls, is)
	if some && !all {
		bad(flag, "some URLs are https:// and others are not: use one for all, because an endpoint in plain text would get what was meant to be secret")
	}
	return some
}

// secureConnect is how long a connection may take whose handshake counts, too:
// Envoy's default.
const secureConnect = 5 * time.Second

// secure has c's connections made as t says.
func (c *ClusterSettings) secure(t *TLS) { c.TLS, c.ConnectTimeout = t, secureConnect }
