package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

// tlsFlags are those that registerTLS registers.
var tlsFlags = []string{
	"tls-cert", "tls-key", "tls-client-ca", "tls-client-san",
	"upstream-tls-ca", "upstream-tls-cert", "upstream-tls-key", "upstream-tls-san", "upstream-sni",
}

func registerTLS(f *pflag.FlagSet, t *snapshot.SourceTLS) {
	f.StringVar(&t.Cert, "tls-cert", "", "file with the certificate that callers are shown, and its chain; with it callers speak TLS")
	f.StringVar(&t.Key, "tls-key", "", "file with the key of --tls-cert")
	f.StringVar(&t.ClientCA, "tls-client-ca", "", "file with the authorities of callers: who has no certificate of theirs is refused")
	f.StringArrayVar(&t.ClientNames, "tls-client-san", nil, "name that a caller's certificate may be for: spiffe://… or a DNS name, whole or as a prefix*; repeatable")
	f.StringVar(&t.UpstreamCA, "upstream-tls-ca", "", "file with the authorities of https:// upstreams and peers (default: the system's)")
	f.StringVar(&t.UpstreamCert, "upstream-tls-cert", "", "file with the certificate that upstreams and peers are shown")
	f.StringVar(&t.UpstreamKey, "upstream-tls-key", "", "file with the key of --upstream-tls-cert")
	f.StringArrayVar(&t.UpstreamNames, "upstream-tls-san", nil, "name that an upstream's certificate may be for, instead of its host; as --tls-client-san")
	f.StringVar(&t.UpstreamSNI, "upstream-sni", "", "server name that is sent to, and verified of, upstreams and peers (default: each one's host)")
}

// checkTLS reads the files that snap names, so that what is wrong with them is said
// at once.
func checkTLS(snap *snapshot.Snapshot) error {
	store := secure.NewStore(slog.New(slog.DiscardHandler), secure.Events{})
	var errs []error
	for _, l := range snap.Listeners {
		if l.TLS != nil {
			if err := store.Server(l.TLS, nil).Check(); err != nil {
				errs = append(errs, fmt.Errorf("--tls-cert, --tls-key, --tls-client-ca: %w", err))
			}
		}
	}
	seen := make(map[*snapshot.TLS]bool)
	for _, c := range snap.Clusters {
		if c.TLS != nil && !seen[c.TLS] {
			seen[c.TLS] = true
			if err := store.Client(c.TLS).Check(); err != nil {
				errs = append(errs, fmt.Errorf("--upstream-tls-ca, --upstream-tls-cert, --upstream-tls-key: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// certificates are what /certs shows.
func (s *sidecar) certificates() []console.Certificate {
	all := s.proxy.Certificates()
	out := make([]console.Certificate, 0, len(all))
	for _, c := range all {
		out = append(out, console.Certificate{Path: c.Where, CA: c.CA, Names: c.Names, Serial: c.Serial, Ends: c.Ends, Error: c.Error})
	}
	return out
}
