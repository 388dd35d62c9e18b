package policy

// State is a breaker's state.
type State uint8

// The states.
const (
	StateClosed   State = iota // requests go through
	StateOpen                  // requests are rejected until OpenFor has passed
	StateHalfOpen              // a few leased probes go through, the rest is rejected
	stateGone                  // taken out of the table; never shown
)

var stateNames = [...]string{"closed", "open", "half-open", "gone"}

// String returns the state as it stands in metrics and on admin pages.
func (s State) String() string { return name(stateNames[:], int(s)) }

// Level says whose breaker decided.
type Level uint8

// The levels.
const (
	LevelKey    Level = iota // the key's own breaker
	LevelTenant              // its tenant's, because there was no room for one of its own
)

var levelNames = [...]string{"key", "tenant"}

// String returns the level as it stands in metrics and on admin pages.
func (l Level) String() string { return name(levelNames[:], int(l)) }

// Decision is what to do with a request.
type Decision uint8

// The decisions.
const (
	Forward Decision = iota // send it
	Probe                   // send it: the breaker is half-open and this request tries the upstream
	Reject                  // do not send it: degrade
)

var decisionNames = [...]string{"forward", "probe", "reject"}

// String returns the decision as it stands in metrics and logs.
func (d Decision) String() string { return name(decisionNames[:], int(d)) }

// Outcome is what a forwarded request says about its upstream.
type Outcome uint8

// The outcomes.
const (
	Success Outcome = iota // the upstream did its work, even if the answer is 404
	Failure                // the upstream did not
	Neutral                // nothing is known: the caller went away, or the fault is ours
)

var outcomeNames = [...]string{"success", "failure", "neutral"}

// String returns the outcome as it stands in metrics and logs.
func (o Outcome) String() string { return name(outcomeNames[:], int(o)) }

// Event is a breaker's change of state. Each change is returned once, to the
// caller whose call made it.
type Event uint8

// The events.
const (
	None       Event = iota
	Opened           // closed or half-open → open; from Record and Sweep
	HalfOpened       // open → half-open; from Decide, by Permit.Event
	Closed           // half-open → closed; from Record
	Decayed          // an open or half-open breaker nobody asked for was dropped; from Sweep
)

var eventNames = [...]string{"none", "opened", "half-opened", "closed", "decayed"}

// String returns the event as it stands in metrics and logs.
func (e Event) String() string { return name(eventNames[:], int(e)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}
