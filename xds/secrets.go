package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Secrets are resources of many suppliers: those of the aggregated stream go by
// their names, those of another supplier by its key and their names, with a zero
// byte between.
const supplierEnd = "\x00"

// supplier returns the key of where a secret comes from; "" is the aggregated
// stream. Secrets of the bootstrap are not kept under it.
func supplier(s snapshot.SecretSource) string {
	switch {
	case s.Path != "":
		return "file " + s.Path + " " + s.Watch
	case s.Stream != "":
		return "stream " + s.Stream
	}
	return ""
}

// secretKey is what the secret that ref means goes by.
func secretKey(ref *snapshot.SecretRef) string {
	if of := supplier(ref.Source); of != "" {
		return of + supplierEnd + ref.Name
	}
	return ref.Name
}

// secretName is the name of what goes by key.
func secretName(key string) string { return key[strings.LastIndex(key, supplierEnd)+1:] }

// secretIn reports whether a key is of a supplier.
func secretIn(key, of string) bool {
	i := strings.LastIndex(key, supplierEnd)
	if i < 0 {
		return of == ""
	}
	return of != "" && key[:i] == of
}

// plainName is r's name as its server knows it.
func (r *resource) plainName() string {
	if r.kind == KindSecret {
		return secretName(r.name)
	}
	return r.name
}

// source says where a secret comes from, for people; "" when that is the aggregated
// stream.
func (r *resource) source() string {
	i := strings.LastIndex(r.name, supplierEnd)
	if r.kind != KindSecret || i < 0 {
		return ""
	}
	kind, of, _ := strings.Cut(r.name[:i], " ")
	if kind == "stream" {
		return "stream " + streamName(of)
	}
	path, _, _ := strings.Cut(of, " ")
	return kind + " " + path
}

// awaitedSecrets returns the names of secrets that are asked for and have not come.
func (a *Applier) awaitedSecrets() (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.all(KindSecret) {
		if !r.accepted() {
			out = append(out, r.plainName())
		}
	}
	return out
}

// secret returns what ref means, or nil while it is not known.
func (a *Applier) secret(ref *snapshot.SecretRef) *snapshot.Secret {
	if ref.Source.Static {
		return a.ownSecrets[ref.Name]
	}
	return a.secrets[secretKey(ref)]
}

// eachRef calls f with every reference to a secret that is configured or in use.
func (a *Applier) eachRef(f func(ref *snapshot.SecretRef, certificate bool)) {
	of := func(t *snapshot.TLS) {
		for ref, certificate := range t.Secrets {
			f(ref, certificate)
		}
	}
	for _, l := range a.listeners {
		for _, v := range []*snapshot.Listener{l.next, l.cur} {
			if v == nil {
				continue
			}
			for face := range v.Faces {
				of(face.TLS)
			}
			if v == l.cur {
				break
			}
		}
	}
	for _, c := range a.securing {
		for _, v := range []*snapshot.ClusterSettings{c.next, c.cur} {
			if v != nil {
				of(v.TLS)
			}
		}
	}
}

// wantedSecrets returns the keys of the secrets that are asked for.
func (a *Applier) wantedSecrets() map[string]bool {
	out := make(map[string]bool)
	a.eachRef(func(ref *snapshot.SecretRef, _ bool) {
		if !ref.Source.Static {
			out[secretKey(ref)] = true
		}
	})
	return out
}

// Suppliers returns who supplies secrets that are asked for, beside the aggregated
// stream and the bootstrap.
func (a *Applier) Suppliers() []snapshot.SecretSource {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []snapshot.SecretSource
	a.eachRef(func(ref *snapshot.SecretRef, _ bool) {
		if supplier(ref.Source) != "" && !slices.Contains(out, ref.Source) {
			out = append(out, ref.Source)
		}
	})
	return out
}

// OnSuppliers makes f called whenever what Suppliers returns, or is asked of one of
// them, may have changed. It is called with locks held: it must return at once and
// not call the Applier.
func (a *Applier) OnSuppliers(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.supply = f
}

// resupply tells who asked when other secrets are asked for than before.
func (a *Applier) resupply() {
	if a.supply == nil {
		return
	}
	if wants := a.wantedSecrets(); !maps.Equal(wants, a.asked) {
		a.asked = wants
		a.supply()
	}
}

// takeSecret makes s what is known under r's name.
func (a *Applier) takeSecret(r *resource, s *snapshot.Secret) []Rejected {
	if why := a.misfit(r, s); why != nil {
		return why
	}
	of := a.secrets
	if r.static {
		of = a.ownSecrets
	}
	if of[r.name] == s {
		return nil
	}
	of[r.name] = s
	for name, c := range a.securing {
		if a.uses(c.next, r) || a.uses(c.cur, r) {
			a.stirred[name] = true
		}
	}
	return nil
}

// misfit says why s is not what is asked for under r's name, or nil. Who asks for
// another kind of secret by mistake does not keep it from those who ask for this one.
func (a *Applier) misfit(r *resource, s *snapshot.Secret) (why []Rejected) {
	was := a.secrets[r.name]
	if r.static {
		was = a.ownSecrets[r.name]
	}
	same, fits := was != nil && (was.Certificate != nil) == (s.Certificate != nil), false
	a.eachRef(func(ref *snapshot.SecretRef, certificate bool) {
		if !means(ref, r) {
			return
		}
		if certificate == (s.Certificate != nil) {
			fits = true
			return
		}
		is, want := "tls_certificate", "validation_context"
		if certificate {
			is, want = want, is
		}
		why = []Rejected{{Name: r.name, Path: is, Reason: "is not what it is asked for as: a " + want, Hint: hintMisfit}}
	})
	if same || fits && was == nil {
		return nil
	}
	return why
}

// means reports whether ref is to the secret r.
func means(ref *snapshot.SecretRef, r *resource) bool {
	if ref.Source.Static || r.static {
		return ref.Source.Static == r.static && ref.Name == r.name
	}
	return secretKey(ref) == r.name
}

func (a *Applier) uses(c *snapshot.ClusterSettings, r *resource) bool {
	if c == nil {
		return false
	}
	for ref := range c.TLS.Secrets {
		if means(ref, r) {
			return true
		}
	}
	return false
}

// missingSecret names a secret of t that is not known, or "".
func (a *Applier) missingSecret(t *snapshot.TLS) string {
	for ref := range t.Secrets {
		if a.secret(ref) == nil {
			return ref.Name
		}
	}
	return ""
}

// supplied reports whether the secrets of t, which has been configured since, are
// there or have had their time.
func (a *Applier) supplied(t *snapshot.TLS, since, now time.Time) bool {
	for ref := range t.Secrets {
		if a.secret(ref) == nil && !a.hopeless(ref) && !over(since, ref.Fetch, now) {
			return false
		}
	}
	return true
}

// hopeless reports whether the supplier of ref says that it has no such secret.
func (a *Applier) hopeless(ref *snapshot.SecretRef) bool {
	if ref.Source.Static {
		return true
	}
	r := a.kinds[KindSecret].byName[secretKey(ref)]
	return r != nil && r.missing
}

// suppliedBy calls sooner with when each secret of t that is not there has had its
// time.
func (a *Applier) suppliedBy(t *snapshot.TLS, since time.Time, sooner func(time.Time)) {
	for ref := range t.Secrets {
		if a.secret(ref) == nil {
			sooner(end(since, ref.Fetch))
		}
	}
}

// furnished is a context with its secrets, and the secrets.
type furnished struct {
	secrets []*snapshot.Secret
	tls     *snapshot.TLS
}

// furnish returns t with its secrets in it: the same as before when they are the
// same.
func (a *Applier) furnish(t *snapshot.TLS) *snapshot.TLS {
	var found []*snapshot.Secret
	for ref := range t.Secrets {
		found = append(found, a.secret(ref))
	}
	if found == nil {
		return t
	}
	if have, ok := a.furnished[t]; ok && slices.Equal(have.secrets, found) {
		return have.tls
	}
	out := *t
	out.CertificateRefs, out.ValidationRef = nil, nil
	lacks := func(ref *snapshot.SecretRef, what string) {
		out.Missing = cmp.Or(out.Missing, fmt.Sprintf("secret %q %s", ref.Name, what))
	}
	i := 0
	for ref, certificate := range t.Secrets {
		s := found[i]
		i++
		switch {
		case s == nil:
			lacks(ref, "has not come: see /xds/status")
		case certificate && s.Certificate == nil:
			lacks(ref, "is no tls_certificate")
		case certificate:
			out.Certificates = append(slices.Clip(out.Certificates), *s.Certificate)
		case s.Validation == nil:
			lacks(ref, "is no validation_context")
		default:
			out.Validation = s.Validation.Over(t.Validation)
			if v := out.Validation; (len(v.Names) > 0 || t.VerifySNI) && !v.Roots.Set() && !v.SystemRoots {
				lacks(ref, "has no trusted_ca, and names are matched: anybody could claim them")
			}
		}
	}
	a.furnished[t] = furnished{found, &out}
	return &out
}

// furnishListener returns what is served as l: with its secrets.
func (a *Applier) furnishListener(l *listenerSlot) *snapshot.Listener {
	var with []*snapshot.TLS
	changed := false
	for face := range l.cur.Faces {
		t := a.furnish(face.TLS)
		with, changed = append(with, t), changed || t != face.TLS
	}
	if !changed {
		return l.cur
	}
	if l.shown != nil && l.shownOf == l.cur && slices.Equal(l.shownTLS, with) {
		return l.shown
	}
	out := *l.cur
	out.Chains = slices.Clone(out.Chains)
	for i, c := range out.Chains {
		d := *c.Listener
		d.TLS, with = with[0], with[1:]
		out.Chains[i] = &snapshot.Chain{Name: c.Name, Match: c.Match, Listener: &d}
	}
	if !out.NoDefault {
		out.TLS = with[0]
	}
	l.shown, l.shownOf, l.shownTLS = &out, l.cur, nil
	for face := range out.Faces {
		l.shownTLS = append(l.shownTLS, face.TLS)
	}
	return l.shown
}

// furnishCluster returns what is in use as c: with its secrets.
func (a *Applier) furnishCluster(c *clusterSlot) *snapshot.ClusterSettings {
	t := a.furnish(c.cur.TLS)
	if t == c.cur.TLS {
		return c.cur
	}
	if c.shown == nil || c.shownOf != c.cur || c.shown.TLS != t {
		out := *c.cur
		out.TLS = t
		c.shown, c.shownOf = &out, c.cur
	}
	return c.shown
}

// unfurnish forgets contexts that nothing names any more.
func (a *Applier) unfurnish() {
	if len(a.furnished) == 0 {
		return
	}
	named := make(map[*snapshot.TLS]bool, len(a.furnished))
	for _, l := range a.listeners {
		if l.cur != nil {
			for face := range l.cur.Faces {
				named[face.TLS] = true
			}
		}
	}
	for _, c := range a.securing {
		if c.cur != nil {
			named[c.cur.TLS] = true
		}
	}
	for t := range a.furnished {
		if !named[t] {
			delete(a.furnished, t)
		}
	}
}
