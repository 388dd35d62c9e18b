package contest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/rivals"
)

// Options say what is run, and how long.
type Options struct {
	Cases    []string      // by name; empty: all
	Only     string        // rivals whose name contains it only: for developing
	Rounds   int           // 0: each case's own
	Quick    bool          // short and few rounds: for developing, never for a table to show
	Profile  time.Duration // of each of quadnine's CPU profiles; 0: none
	Results  string        // folder for the profiles
	Programs rivals.Programs
	Dir      string // scratch folder

	ProxyCPU, RestCPU int
	Log               io.Writer // progress
}

// ErrNoCase says that there is no case of a name, ErrNoRival that no rival's name
// contains Only.
var (
	ErrNoCase  = errors.New("no such case")
	ErrNoRival = errors.New("no such rival")
)

// chosen returns the cases that are asked for, in the list's order.
func (o Options) chosen() ([]*testCase, error) {
	all := cases()
	if !slices.ContainsFunc(append(rivals.All(), rivals.Servers()...), func(r rivals.Rival) bool { return o.wants(r.Name) }) {
		return nil, fmt.Errorf("contest: %w: %q", ErrNoRival, o.Only)
	}
	if len(o.Cases) == 0 {
		return all, nil
	}
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, c.name)
	}
	for _, want := range o.Cases {
		if !slices.Contains(names, want) {
			return nil, fmt.Errorf("contest: %w: %q; there are %s", ErrNoCase, want, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(c *testCase) bool { return !slices.Contains(o.Cases, c.name) }), nil
}

// Whole reports whether all cases run in full with every rival: what may be kept.
func (o Options) Whole() bool { return len(o.Cases) == 0 && o.Only == "" && !o.Quick }

// rounds is how often a case measures each proxy.
func (o Options) rounds(c *testCase) int {
	if o.Quick {
		return min(cmp.Or(o.Rounds, 2), c.rounds)
	}
	return max(o.Rounds, c.rounds)
}

// length is how long one measurement of a case takes.
func (o Options) length(c *testCase) time.Duration {
	if o.Quick {
		return min(c.length/4, 5*time.Second)
	}
	return c.length
}

// wants reports whether a rival takes part.
func (o Options) wants(name string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(o.Only))
}
