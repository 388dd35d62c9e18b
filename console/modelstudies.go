package console

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Shadow is a version that is, or was, computed beside the active one and never
// served, and how its answers differ.
type Shadow struct {
	Version uint64    `json:"version"`
	Against uint64    `json:"against"` // the version that answered
	Percent float64   `json:"percent"` // of the queries
	Since   time.Time `json:"since"`
	Over    bool      `json:"over,omitempty"`
	Queries int64     `json:"queries,omitempty"` // to be compared before it is offered to callers; 0: until somebody says so
	Differences

	SkippedBusy   uint64              `json:"skipped_busy"`
	SkippedInputs uint64              `json:"skipped_inputs"`
	SkippedGone   uint64              `json:"skipped_gone"`
	Tenants       []TenantDifferences `json:"tenants,omitempty"`
}

// Differences is how the answers of a version in shadow differ from those given.
type Differences struct {
	Compared  uint64  `json:"compared"`
	Equal     uint64  `json:"equal"`
	NotFinite uint64  `json:"not_finite"`
	Failed    uint64  `json:"failed"`
	Bias      float64 `json:"bias"` // mean of shadow minus active
	Absolute  Spread  `json:"absolute"`
	Relative  Spread  `json:"relative"` // over the larger magnitude of the two
}

// TenantDifferences are those of one tenant.
type TenantDifferences struct {
	Tenant string `json:"tenant"`
	Differences
}

// Spread is a distribution of magnitudes.
type Spread struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Experiment is one that runs over a model's versions, or the last one that did.
type Experiment struct {
	Name    string    `json:"name"`
	By      string    `json:"by,omitempty"` // the header that a caller is known by; empty: the user
	Started time.Time `json:"started"`
	Counted time.Time `json:"counted_since"` // later than Started after a restart and a change of weights
	Over    bool      `json:"over,omitempty"`
	Outcome string    `json:"outcome"`
	Arms    []Arm     `json:"arms"`
}

// Arm is one version of an experiment and what it did.
type Arm struct {
	Version   uint64  `json:"version"`
	Weight    float64 `json:"weight"`
	Percent   float64 `json:"percent"`           // of the callers
	Control   bool    `json:"control,omitempty"` // what the others are compared with
	Away      bool    `json:"away,omitempty"`    // its callers go to the active version
	Ended     string  `json:"ended,omitempty"`   // why, for good
	Requests  uint64  `json:"requests"`
	Failures  uint64  `json:"failures"`
	NotFinite uint64  `json:"not_finite"`
	P50       float64 `json:"p50_s"`
	P95       float64 `json:"p95_s"`
	P99       float64 `json:"p99_s"`

	Answers  uint64   `json:"answers,omitempty"` // numbers that were computed here
	Mean     *float64 `json:"mean,omitempty"`
	Variance *float64 `json:"variance,omitempty"`

	// Against the control, with 95 % intervals.
	FailureDifference *Interval `json:"failure_difference,omitempty"`
	MeanDifference    *Interval `json:"mean_difference,omitempty"`
}

// Interval is a difference and its bounds.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// ArmShare is a version and its weight, as somebody asks for them.
type ArmShare struct {
	Version uint64
	Weight  float64
}

// The paths that begin and end studies.
const (
	shadowPath          = "/models/{model}/versions/{version}/shadow"
	startExperimentPath = "/models/{model}/experiments/{name}/start"
	stopExperimentPath  = "/models/{model}/experiments/{name}/stop"
)

// studies adds the paths that begin and end studies.
func (v *Views) studies(root *http.ServeMux) {
	if v.Shadow != nil {
		root.HandleFunc(shadowPath, change("it changes what answers", v.shadow))
	}
	if v.StartExperiment != nil {
		root.HandleFunc(startExperimentPath, change("it changes what answers", v.startExperiment))
	}
	if v.StopExperiment != nil {
		root.HandleFunc(stopExperimentPath, change("it changes what answers", v.stopExperiment))
	}
}

func (v *Views) shadow(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	version, err := strconv.ParseUint(r.PathValue("version"), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "console: version %s: want a number, as /models lists them", printable(r.PathValue("version")))
		return
	}
	text := r.URL.Query().Get("percent")
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil || !(percent >= 0 && percent <= 100) { // NaN is not
		fail(w, http.StatusBadRequest, "console: percent %s: want a number from 0 to 100, like ?percent=10; 0 ends it", printable(text))
		return
	}
	if err := v.Shadow(r.Context(), model, version, percent); err != nil {
		fail(w, statusOf(err), "console: shadow %s@%d: %s", printable(model), version, printable(err.Error()))
		return
	}
	if percent == 0 {
		answer(w, "%s@%d is out of shadow\n", printable(model), version)
		return
	}
	answer(w, "%s@%d is computed for %v %% of the queries, and never served\n", printable(model), version, percent)
}

func (v *Views) startExperiment(w http.ResponseWriter, r *http.Request) {
	model, name, q := r.PathValue("model"), r.PathValue("name"), r.URL.Query()
	var arms []ArmShare
	for _, text := range q["arm"] {
		a, err := ParseArm(text)
		if err != nil {
			fail(w, http.StatusBadRequest, "console: %s", printable(err.Error()))
			return
		}
		arms = append(arms, a)
	}
	if err := v.StartExperiment(r.Context(), model, name, q.Get("by"), arms); err != nil {
		fail(w, statusOf(err), "console: start experiment %s of %s: %s", printable(name), printable(model), printable(err.Error()))
		return
	}
	answer(w, "experiment %s of %s runs over %d arms\n", printable(name), printable(model), len(arms))
}

// ParseArm reads "2=50": version 2 with weight 50.
func ParseArm(text string) (a ArmShare, err error) {
	version, weight, ok := strings.Cut(text, "=")
	if ok {
		a.Version, err = strconv.ParseUint(version, 10, 64)
	}
	if ok && err == nil {
		a.Weight, err = strconv.ParseFloat(weight, 64)
	}
	if !ok || err != nil || !(a.Weight > 0) || math.IsInf(a.Weight, 0) { // NaN is not
		return a, fmt.Errorf("arm %q: want a version and a weight above 0, like 2=50", text)
	}
	return a, nil
}

func (v *Views) stopExperiment(w http.ResponseWriter, r *http.Request) {
	model, name, text := r.PathValue("model"), r.PathValue("name"), r.URL.Query().Get("winner")
	winner := uint64(0)
	if text != "" {
		var err error
		if winner, err = strconv.ParseUint(text, 10, 64); err != nil || winner == 0 {
			fail(w, http.StatusBadRequest, "console: winner %s: want the number of a version", printable(text))
			return
		}
	}
	if err := v.StopExperiment(r.Context(), model, name, winner); err != nil {
		fail(w, statusOf(err), "console: stop experiment %s of %s: %s", printable(name), printable(model), printable(err.Error()))
		return
	}
	if winner == 0 {
		answer(w, "experiment %s of %s is stopped; versions stay what they are\n", printable(name), printable(model))
		return
	}
	answer(w, "experiment %s of %s is stopped; %s@%d is active\n", printable(name), printable(model), printable(model), winner)
}

func answer(w http.ResponseWriter, line string, args ...any) {
	_, _ = fmt.Fprintf(text(w, http.StatusOK), line, args...)
}

// lines writes what is in shadow below its model.
func (s *Shadow) lines(w io.Writer) {
	if s == nil {
		return
	}
	what := fmt.Sprintf("computed for %.4g %% of the queries", s.Percent)
	if s.Over {
		what = "was computed, is over"
	}
	if s.Queries > 0 && !s.Over {
		what += fmt.Sprintf(", offered to callers after %d without a fault", s.Queries)
	}
	_, _ = fmt.Fprintf(w, "  shadow @%d beside @%d %s, since %s\n", s.Version, s.Against, what, s.Since.UTC().Format(time.RFC3339))
	_, _ = fmt.Fprintf(w, "        %s\n", s.line())
	if n := s.SkippedBusy + s.SkippedInputs + s.SkippedGone; n > 0 {
		_, _ = fmt.Fprintf(w, "        skipped: %d busy, %d without its inputs, %d gone\n", s.SkippedBusy, s.SkippedInputs, s.SkippedGone)
	}
}

// line returns the differences on one line.
func (d *Differences) line() string {
	return fmt.Sprintf("%d compared, %d equal, %d not finite, %d failed; relative p50 %.3g p90 %.3g p99 %.3g max %.3g; absolute p99 %.3g max %.3g; bias %.3g",
		d.Compared, d.Equal, d.NotFinite, d.Failed, d.Relative.P50, d.Relative.P90, d.Relative.P99, d.Relative.Max, d.Absolute.P99, d.Absolute.Max, d.Bias)
}

// lines writes an experiment below its model.
func (e *Experiment) lines(w io.Writer) {
	if e == nil {
		return
	}
	by := e.By
	if by == "" {
		by = "user"
	}
	_, _ = fmt.Fprintf(w, "  experiment %s by %s, since %s, counted since %s: %s\n",
		printable(e.Name), printable(by), e.Started.UTC().Format(time.RFC3339), e.Counted.UTC().Format(time.RFC3339), printable(e.Outcome))
	for i := range e.Arms {
		_, _ = fmt.Fprintf(w, "        %s\n", e.Arms[i].String())
	}
}

// String returns the arm on one line.
func (a *Arm) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "@%d %.4g %% of callers, %d requests, %d failed", a.Version, a.Percent, a.Requests, a.Failures)
	if a.Requests > 0 {
		fmt.Fprintf(&b, ", p50 %s p95 %s p99 %s", seconds(a.P50), seconds(a.P95), seconds(a.P99))
	}
	if a.Answers > 0 && a.Mean != nil && a.Variance != nil {
		fmt.Fprintf(&b, ", mean %.6g ± %.3g of %d", *a.Mean, math.Sqrt(*a.Variance), a.Answers)
	}
	if a.Control {
		b.WriteString(", control")
	}
	if d := a.MeanDifference; d != nil {
		fmt.Fprintf(&b, "; mean differs by %s", d)
	}
	if d := a.FailureDifference; d != nil {
		fmt.Fprintf(&b, "; failure share by %s", d)
	}
	switch {
	case a.Ended != "":
		fmt.Fprintf(&b, "; ended: %s", printable(a.Ended))
	case a.Away:
		b.WriteString("; not there: its callers go to the active version")
	}
	return b.String()
}

// String returns "1.2 (0.8 to 1.6)".
func (i *Interval) String() string { return fmt.Sprintf("%.4g (%.4g to %.4g)", i.Value, i.Low, i.High) }

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}
