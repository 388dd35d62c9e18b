package xds

import (
	"fmt"

	"github.com/quadnine/quadnine/secure"
	"github.com/quadnine/quadnine/snapshot"
)

const (
	hintFile   = "name files that exist and that this process may read"
	hintMisfit = "send another secret under this name, or name another"
	hintStatic = "add it to static_resources.secrets of the bootstrap, or name an sds_config"
)

// unsecured says why the listener l cannot be secured as it wants to be, or nil.
func (a *Applier) unsecured(name string, l *snapshot.Listener) (why []Rejected) {
	const path = ".transport_socket.typed_config.common_tls_context"
	for i, c := range l.Chains {
		why = append(why, a.unsecuredTLS(name, c.TLS, fmt.Sprintf("filter_chains[%d]", i)+path)...)
	}
	if !l.NoDefault {
		at := "default_filter_chain"
		if len(l.Chains) == 0 {
			at = "filter_chains[0]"
		}
		why = append(why, a.unsecuredTLS(name, l.TLS, at+path)...)
	}
	return why
}

// unsecuredTLS says why t, of the resource called name, cannot be used, or nil. What
// it needs of this machine is looked at here: the compiler looks at what is written
// only.
func (a *Applier) unsecuredTLS(name string, t *snapshot.TLS, path string) (why []Rejected) {
	if t == nil || a.restoring { // what is restored was taken once
		return nil
	}
	reject := func(at, hint, format string, args ...any) {
		why = append(why, Rejected{Name: name, Path: path + "." + at, Reason: fmt.Sprintf(format, args...), Hint: hint})
	}
	i := -1
	for ref, certificate := range t.Secrets {
		at := "validation_context_sds_secret_config"
		if certificate {
			i++
			at = fmt.Sprintf("tls_certificate_sds_secret_configs[%d]", i)
		}
		switch {
		case ref.Source.Static && a.kinds[KindSecret].static[ref.Name] == nil:
			reject(at, hintStatic, "Unknown static secret: %s", ref.Name)
		case supplier(ref.Source) == "" && !ref.Source.Static && !a.kinds[KindSecret].dynamic:
			reject(at, "name another source, or set ads_config in the bootstrap", "there is no aggregated stream to ask for it")
		case supplier(ref.Source) != "" && a.supplier != nil:
			if err := a.supplier(ref.Source); err != nil {
				reject(at+".sds_config", "name a cluster of static_resources that leads to who supplies secrets", "%v", err)
			}
		}
	}
	for i, c := range t.Certificates {
		if c.Chain.Path == "" && c.Key.Path == "" {
			continue // compiled
		}
		if _, err := secure.ReadPair(c); err != nil {
			reject(fmt.Sprintf("tls_certificates[%d]", i), hintFile, "%v", err)
		}
	}
	if v := t.Validation; v != nil && v.Roots.Path != "" {
		if _, err := secure.ReadRoots(v.Roots); err != nil {
			reject("validation_context.trusted_ca", hintFile, "%v", err)
		}
	}
	return why
}
