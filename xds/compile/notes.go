package compile

import (
	"slices"
	"strings"
)

// Notes tell what was accepted and has no effect.
type Notes struct {
	// Ignored names fields that only tune or count, as
	// "route table/virtual_hosts[].routes[].decorator (set to …): why", each once, sorted.
	Ignored []string
	// Unknown counts field numbers that no version of the messages here has.
	Unknown int
}

// ignore adds a line unless there is one about the same field.
func (n *Notes) ignore(line string) {
	field, _, _ := strings.Cut(line, " (set to ")
	i, found := slices.BinarySearchFunc(n.Ignored, field, func(have, want string) int {
		have, _, _ = strings.Cut(have, " (set to ")
		return strings.Compare(have, want)
	})
	if !found {
		n.Ignored = slices.Insert(n.Ignored, i, line)
	}
}

// add merges other into n.
func (n *Notes) add(other *Notes) {
	if other == nil {
		return
	}
	n.Unknown += other.Unknown
	for _, l := range other.Ignored {
		n.ignore(l)
	}
}

// empty reports whether there is nothing to tell.
func (n *Notes) empty() bool { return len(n.Ignored) == 0 && n.Unknown == 0 }
