package telemetry

// Outcome classifies a finished request: each is counted under exactly one.
type Outcome uint8

// The outcomes.
const (
	OK            Outcome = iota // the upstream's own answer, below 400
	ClientError                  // the caller's fault: 4xx, from upstream or from here
	UpstreamError                // the upstream's 5xx, or its failure explained, or its reply broken midway
	Degraded                     // answered by a degrade step; the step says which
	LocalError                   // a defect or a limit of this process
	Canceled                     // the caller went away first

	numOutcomes = iota
)

var outcomeNames = [numOutcomes]string{"ok", "client_error", "upstream_error", "degraded", "local_error", "canceled"}

// String returns the outcome as it stands in metrics.
func (o Outcome) String() string {
	if o < numOutcomes {
		return outcomeNames[o]
	}
	return "unknown"
}

// DegradeStep is what answered instead of the upstream that was asked first.
type DegradeStep uint8

// The steps, spelt as in x-quadnine-degraded.
const (
	StepNone     DegradeStep = iota // nothing: the answer is not degraded
	StepPeer                        // another sidecar's application
	StepStale                       // a stored reply
	StepPrevious                    // the model's previous version

	numSteps = iota
)

var stepNames = [numSteps]string{"none", "peer", "stale", "previous"}

// String returns the step as it stands in metrics and headers.
func (s DegradeStep) String() string {
	if s < numSteps {
		return stepNames[s]
	}
	return "unknown"
}
