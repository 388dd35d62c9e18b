package loader

import (
	"slices"
	"strconv"
)

// State is where a version is in its life. A version that was rolled back is
// also marked Refused, which outlives it.
type State uint8

// The states.
const (
	Loading   State = iota // being read, hashed and mapped
	Pending                // mapped; the whole version is being proved and warmed up
	Shadow                 // computed beside the active one, and never served
	Canary                 // answers a share of the callers, judged
	Active                 // answers the rest
	Standby                // the previous active version, still mapped: the rollback target
	Unloading              // no new leases; the ones out have until the reclaim time
	Freed                  // memory returned
	Failed                 // could not be loaded or proved; nothing of it was served
)

var stateNames = [...]string{"loading", "pending", "shadow", "canary", "active", "standby", "unloading", "freed", "failed"}

// String returns the state as it stands in metrics and on admin pages.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// transitions are the only ways from one state to another.
var transitions = [...][]State{
	Loading:   {Pending, Failed},
	Pending:   {Shadow, Canary, Active, Standby, Unloading, Failed}, // Standby: a restart maps the standby again
	Shadow:    {Canary, Active, Unloading},                          // offered, with or without a trial; rolled back
	Canary:    {Active, Shadow, Unloading},                          // promoted; put in shadow by hand; rolled back
	Active:    {Standby, Unloading},                                 // replaced; rolled back
	Standby:   {Active, Unloading},                                  // rolled back to; replaced by a newer standby
	Unloading: {Freed},
	Freed:     {},
	Failed:    {Freed},
}

// Can reports whether a version may go from s to next.
func (s State) Can(next State) bool {
	return int(s) < len(transitions) && slices.Contains(transitions[s], next)
}

// Verdict is what a Judge says about a canary.
type Verdict uint8

// The verdicts.
const (
	Hold     Verdict = iota // not decided yet
	Promote                 // make it the active version
	Rollback                // take it away and never try it again
)

var verdictNames = [...]string{"hold", "promote", "rollback"}

// String returns the verdict as it stands in logs.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "verdict " + strconv.Itoa(int(v))
}
