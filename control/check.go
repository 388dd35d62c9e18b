package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quadnine/quadnine/xds/compile"
)

// compile compiles r as a sidecar would.
func (r *Resource) compile(c *compile.Compiler) error {
	var (
		n   compile.Notes
		err error
	)
	switch r.Kind {
	case Clusters:
		out, notes, e := c.Cluster(r.Body)
		if n, err = notes, e; err == nil {
			r.refs = clusterRefs(out)
		}
	case Endpoints:
		_, _, n, err = c.Assignment(r.Body)
	case Listeners:
		out, notes, e := c.Listener(r.Body)
		if n, err = notes, e; err == nil {
			r.refs = listenerRefs(out)
		}
	case Routes:
		out, notes, e := c.Routes(r.Body)
		if n, err = notes, e; err == nil {
			r.refs = refs{clusters: out.Clusters, strict: out.Validate}
		}
	case Runtime:
		_, n, err = c.Runtime(r.Body)
	case Secrets:
		_, n, err = c.Secret(r.Body)
	case kinds:
	}
	r.refs.ignored = n.Ignored
	if err == nil {
		return nil
	}
	reasons := compile.Reasons(err)
	if len(reasons) == 0 {
		return fmt.Errorf("%s: %s %q: %w", r.Where, r.Kind.What(), r.Name, err)
	}
	errs := make([]error, len(reasons))
	for i, e := range reasons {
		errs[i] = fmt.Errorf("%s: %w", r.at(e.Path), e)
	}
	return errors.Join(errs...)
}

// check looks at what the resources of a group say of one another. Failures are
// what a proxy would refuse; it lives with what the warnings are about.
func check(g *Group, known []string) (failures, warnings []string) {
	warn := func(r *Resource, format string, args ...any) {
		warnings = append(warnings, r.Where+": "+r.Kind.What()+" "+fmt.Sprintf("%q ", r.Name)+fmt.Sprintf(format, args...))
	}
	used := make(map[string]bool)
	for _, r := range g.Resources(Clusters) {
		if r.refs.assignment == "" {
			continue
		}
		used[r.refs.assignment] = true
		if g.Get(Endpoints, r.refs.assignment) == nil {
			warn(r, "asks for the assignment %q, which is not there: it has no endpoints", r.refs.assignment)
		}
	}
	for _, r := range g.Resources(Endpoints) {
		if !used[r.Name] {
			warn(r, "is of no EDS cluster: nobody asks for it")
		}
	}
	tables, addresses := make(map[string]bool), make(map[string]*Resource)
	for _, r := range g.Resources(Listeners) {
		for _, t := range r.refs.tables {
			tables[t] = true
			if g.Get(Routes, t) == nil {
				warn(r, "asks for the route table %q, which is not there: it waits for it", t)
			}
		}
		if a := r.refs.address; a != "" {
			if other := addresses[a]; other != nil {
				failures = append(failures, fmt.Sprintf("%s: listener %q has the address %s of listener %q (%s): give one of them another", r.Where, r.Name, a, other.Name, other.Where))
			}
			addresses[a] = r
		}
	}
	for _, r := range slices.Concat(g.Resources(Listeners), g.Resources(Routes)) {
		for _, name := range r.refs.clusters {
			switch {
			case g.Get(Clusters, name) != nil, slices.Contains(known, name):
			case r.refs.strict:
				failures = append(failures, fmt.Sprintf("%s: %s %q: a route names the cluster %q, which is not there, and validate_clusters is set", r.Where, r.Kind.What(), r.Name, name))
			default:
				warn(r, "names the cluster %q, which is not there: its requests get 503", name)
			}
		}
	}
	for _, r := range g.Resources(Routes) {
		if !tables[r.Name] {
			warn(r, "is of no listener: nobody asks for it")
		}
	}
	for _, r := range slices.Concat(g.Resources(Clusters), g.Resources(Listeners)) {
		for _, name := range r.refs.secrets {
			if g.Get(Secrets, name) == nil {
				warn(r, "asks for the secret %q, which is not there: it waits for it", name)
			}
		}
	}
	for _, k := range Kinds() {
		for _, r := range g.Resources(k) {
			for _, line := range r.refs.ignored {
				_, field, _ := strings.Cut(line, "/")
				warn(r, "%s has no effect in quadnine", field)
			}
		}
	}
	return failures, warnings
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
