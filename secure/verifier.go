package secure

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/quadnine/quadnine/snapshot"
)

// Peer is whose certificate is verified.
type Peer uint8

// The peers.
const (
	Server Peer = iota // as a client does
	Client             // as a server does
)

// String returns the peer as errors call it.
func (p Peer) String() string {
	if p == Client {
		return "caller"
	}
	return "server"
}

func (p Peer) usage() x509.ExtKeyUsage {
	if p == Client {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

// Verifier decides whether a peer is who it should be. It is immutable.
type Verifier struct {
	rules  *snapshot.Validation
	peer   Peer
	roots  *x509.CertPool // nil: the chain is not verified
	source string         // of roots
	host   string         // must be a name of the certificate, unless empty
}

// NewVerifier reads what v trusts and returns its verifier of a peer.
func NewVerifier(v *snapshot.Validation, peer Peer) (*Verifier, error) {
	var pool *x509.CertPool
	if v.Roots.Set() {
		r := newRoots(v)
		if _, err := r.refresh(); err != nil {
			return nil, err
		}
		pool = r.pool.Load()
	}
	return newVerifier(v, peer, pool)
}

// newVerifier returns the verifier of v whose Roots are pool; nil: v has none.
func newVerifier(v *snapshot.Validation, peer Peer, pool *x509.CertPool) (*Verifier, error) {
	f := &Verifier{rules: v, peer: peer, roots: pool, source: origin(v.Roots)}
	if pool == nil && v.SystemRoots {
		var err error
		if f.roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("system_root_certs: %w", err)
		}
		f.source = "of the system"
	}
	if len(v.Names) > 0 && f.roots == nil && !v.Untrusted {
		return nil, errors.New("names are matched without a trusted_ca: anybody could claim them")
	}
	if v.Untrusted {
		f.roots = nil
	}
	return f, nil
}

// Named returns f, which must find host among the certificate's names as well.
func (f *Verifier) Named(host string) *Verifier {
	out := *f
	out.host = host
	return &out
}

// Verify is a tls.Config's VerifyConnection, which is called for resumed sessions
// as well.
func (f *Verifier) Verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("the %s has no certificate", f.peer)
	}
	leaf := state.PeerCertificates[0]
	if f.roots != nil {
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: f.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{f.peer.usage()}})
		if err != nil {
			return fmt.Errorf("the %s's certificate for %s, issued by %q, is not trusted by trusted_ca %s: %w", f.peer, namesOf(leaf), leaf.Issuer, f.source, err)
		}
		if d := f.rules.Depth; d >= 0 && !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return len(chain)-2 <= d }) {
			return fmt.Errorf("the %s's chain of certificates is longer than max_verify_depth %d", f.peer, d)
		}
	}
	if f.host != "" {
		if err := leaf.VerifyHostname(f.host); err != nil {
			return fmt.Errorf("auto_sni_san_validation: %w", err)
		}
	}
	if len(f.rules.Names) > 0 && !slices.ContainsFunc(f.rules.Names, func(m snapshot.NameMatcher) bool { return named(leaf, m) }) {
		return fmt.Errorf("the %s's certificate is for %s, which no entry of match_typed_subject_alt_names matches", f.peer, namesOf(leaf))
	}
	if len(f.rules.Hashes)+len(f.rules.Keys) > 0 {
		sum, key := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		is := func(sum [32]byte) func([]byte) bool { return func(b []byte) bool { return bytes.Equal(b, sum[:]) } }
		if !slices.ContainsFunc(f.rules.Hashes, is(sum)) && !slices.ContainsFunc(f.rules.Keys, is(key)) {
			return fmt.Errorf("the %s's certificate is none of verify_certificate_hash and verify_certificate_spki", f.peer)
		}
	}
	return nil
}
