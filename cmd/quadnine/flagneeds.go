package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/quadnine/quadnine/snapshot"
)

// flagNeeds are flags of `run` that say more of something that another flag asks
// for. Without that they would have no effect, so they are refused.
var flagNeeds = []struct{ flags, one []string }{
	{[]string{
		"model-store", "model-ingest", "model-key", "model-trust", "model-quota", "model-copy-limit", "model-reclaim", "model-mlock", "model-judge", "model-pool",
		"model-patch-memory", "model-patch-time", "model-share",
	}, []string{"models", "model-bucket"}},
	{[]string{"model-bucket-poll", "model-tier-after"}, []string{"model-bucket"}},
	{[]string{"model-pool-ca", "model-pool-cert", "model-pool-key"}, []string{"model-pool"}},
	{[]string{"model-share-clients", "model-share-ready", "model-share-sealed"}, []string{"model-share"}},
	{[]string{
		"service-node", "service-cluster", "service-zone", "strict", "reject-unknown-static-fields", "reject-unknown-dynamic-fields", "mode",
		"admin-address-path", "state-dir", "refuse-empty", "csds",
	}, []string{"config-path", "config-yaml"}},
}

// checkNeeds refuses flags that would have no effect.
func checkNeeds(f *pflag.FlagSet) error {
	var errs []error
	for _, n := range flagNeeds {
		given := false
		for _, name := range n.one {
			given = given || f.Lookup(name).Value.String() != "" // given, but empty, it asks for nothing
		}
		for _, name := range n.flags {
			if !given && f.Changed(name) {
				one := "--" + strings.Join(n.one, " or --")
				errs = append(errs, fmt.Errorf("--%s: has no effect without %s: give %s too", name, one, one))
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return usage(errors.Join(errs...))
}

// setFromFile sets the flags that a file's "models" is about, but those that the
// command line sets. at returns where the file sets a flag, "" when it does not.
func setFromFile(f *pflag.FlagSet, file string, of snapshot.Models) (at func(flag string) string, err error) {
	places := make(map[string]string)
	for _, s := range of {
		if f.Changed(s.Flag) {
			continue
		}
		places[s.Flag] = fmt.Sprintf("%s:%d: %s", file, s.Line, s.Key)
	}
	for _, s := range of {
		if places[s.Flag] == "" {
			continue
		}
		for _, value := range s.Values {
			if err := f.Set(s.Flag, value); err != nil {
				return nil, usage(fmt.Errorf("%s: %w", places[s.Flag], err))
			}
		}
	}
	return func(flag string) string { return places[flag] }, nil
}

// located puts before an error that begins with a flag where a file sets it.
func located(err error, at func(flag string) string) error {
	if err == nil {
		return nil
	}
	name, ok := strings.CutPrefix(err.Error(), "--")
	if !ok {
		return err
	}
	if i := strings.IndexAny(name, ": "); i > 0 {
		name = name[:i]
	}
	if where := at(name); where != "" {
		return usage(fmt.Errorf("%s: %w", where, err))
	}
	return err
}
