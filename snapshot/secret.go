package snapshot

import (
	"slices"
	"time"
)

// SecretSource says who supplies a secret. It is comparable: what has the same
// source has the same supplier. The zero value is the aggregated stream.
type SecretSource struct {
	Static bool   // the bootstrap, by name
	Path   string // path_config_source: a file …
	Watch  string // … that is read anew when something moves into this directory; "": when it changes
	Stream string // api_config_source, encoded: a stream of its own
}

// SecretRef names a secret that is supplied apart from the listener or the cluster
// that needs it (SdsSecretConfig).
type SecretRef struct {
	Name   string
	Source SecretSource
	Fetch  time.Duration // sds_config.initial_fetch_timeout; 0: for ever
}

// Secret is a secret. One of both is set.
type Secret struct {
	Name        string
	Certificate *Certificate
	Validation  *Validation
}

// Secrets yields the references of t, which may be nil, with whether each is to
// a certificate; the other is to how a peer is verified.
func (t *TLS) Secrets(yield func(r *SecretRef, certificate bool) bool) {
	if t == nil {
		return
	}
	for i := range t.CertificateRefs {
		if !yield(&t.CertificateRefs[i], true) {
			return
		}
	}
	if t.ValidationRef != nil {
		yield(t.ValidationRef, false)
	}
}

// Over returns v with what other says: as Envoy merges a dynamic validation context
// into the default one, single values are replaced and lists are joined. Either may
// be nil.
func (v *Validation) Over(other *Validation) *Validation {
	if v == nil || other == nil {
		if v == nil {
			v = other
		}
		return v
	}
	out := *other
	if v.Roots.Set() {
		out.Roots = v.Roots
	}
	out.SystemRoots = v.SystemRoots || other.SystemRoots
	out.Untrusted = v.Untrusted || other.Untrusted
	out.Names = slices.Concat(other.Names, v.Names)
	out.Hashes = slices.Concat(other.Hashes, v.Hashes)
	out.Keys = slices.Concat(other.Keys, v.Keys)
	if v.Depth >= 0 {
		out.Depth = v.Depth
	}
	if v.Watch != "" {
		out.Watch = v.Watch
	}
	return &out
}

// Faces yields everything that connections of l can be served by: its filter
// chains, and l itself unless it has no default one. What is asked of a listener's
// routes, policies or logs is asked of each.
func (l *Listener) Faces(yield func(*Listener) bool) {
	for _, c := range l.Chains {
		if !yield(c.Listener) {
			return
		}
	}
	if !l.NoDefault {
		yield(l)
	}
}
