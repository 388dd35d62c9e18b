package console

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Model is one model and what there is of it.
type Model struct {
	Name        string       `json:"name"`
	Mode        string       `json:"mode"`             // embedded, routed
	Metric      string       `json:"metric,omitempty"` // that it answers, when embedded
	Versions    []Version    `json:"versions"`
	Refused     []Refused    `json:"refused"`
	Quarantined []Quarantine `json:"quarantined"`
	Shadow      *Shadow      `json:"shadow,omitempty"`
	Experiment  *Experiment  `json:"experiment,omitempty"`
	Store       *Room        `json:"store,omitempty"`    // bytes of files that its versions take
	Mappings    *Room        `json:"mappings,omitempty"` // of the kernel, that the versions of all models take
}

// Room is what is taken of something, and how much may be.
type Room struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit,omitempty"` // 0: no bound
}

func (r *Room) String() string {
	if r.Limit == 0 {
		return strconv.FormatInt(r.Used, 10)
	}
	return fmt.Sprintf("%d of %d", r.Used, r.Limit)
}

// Version is one version that is mapped, or about to be.
type Version struct {
	Number   uint64    `json:"number"`
	Root     string    `json:"root"`  // hex
	State    string    `json:"state"` // loading, pending, shadow, canary, active, standby, unloading
	Since    time.Time `json:"since"`
	Leases   int64     `json:"leases"`
	Durable  bool      `json:"durable"`            // a power cut will not lose it
	Weight   float64   `json:"weight"`             // percentage of callers
	Evidence string    `json:"evidence,omitempty"` // of its trial, as the audit log writes it
	Expect   string    `json:"expect,omitempty"`   // how long a decision takes
	Blocked  string    `json:"blocked,omitempty"`  // why it must not be tried any more, although it answers
	Narrower []string  `json:"narrower,omitempty"` // inputs that it refuses and the version before takes, and why
}

// Why is what there is to know of a version beside its state, for people.
func (v *Version) Why() string {
	out := v.Expect
	add := func(s string) {
		if out != "" {
			out += "; "
		}
		out += s
	}
	if v.Blocked != "" {
		add("blocked, and goes on without a standby: " + v.Blocked)
	}
	if len(v.Narrower) > 0 {
		add("refuses inputs that the version before takes: " + strings.Join(v.Narrower, ", "))
	}
	return out
}

// Refused is a version that was taken back and is not tried again by itself.
type Refused struct {
	Number uint64    `json:"number"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Quarantine is a drop that is not used.
type Quarantine struct {
	Drop   string `json:"drop"`
	Reason string `json:"reason"`
}

func (v *Views) models(w http.ResponseWriter, r *http.Request) {
	if f, ok := formatOf(w, r, asText, asJSON, asLines); ok {
		stream(w, f, "models", wholeModels(v.Models()), modelLines)
	}
}

// wholeModels keeps the lists arrays in JSON where a model has none.
func wholeModels(all iter.Seq[Model]) iter.Seq[Model] {
	return func(yield func(Model) bool) {
		for m := range all {
			m.Versions = append([]Version{}, m.Versions...)
			m.Refused = append([]Refused{}, m.Refused...)
			m.Quarantined = append([]Quarantine{}, m.Quarantined...)
			if !yield(m) {
				return
			}
		}
	}
}

// modelLines writes m as a line and one more for each version, refusal and
// quarantined drop.
func modelLines(w io.Writer, m Model) {
	_, _ = fmt.Fprintf(w, "%s (%s", printable(m.Name), printable(m.Mode))
	if m.Metric != "" {
		_, _ = fmt.Fprintf(w, ", answers %s", printable(m.Metric))
	}
	_, _ = fmt.Fprintln(w, ")")
	for _, v := range m.Versions {
		durable := ""
		if v.Durable {
			durable = ", durable"
		}
		_, _ = fmt.Fprintf(w, "  @%-4d %-9s %5.4g %% of callers, %d leases, since %s, root %s%s\n",
			v.Number, printable(v.State), v.Weight, v.Leases, v.Since.UTC().Format(time.RFC3339), printable(v.Root), durable)
		if v.Evidence != "" {
			_, _ = fmt.Fprintf(w, "        %s\n", printable(v.Evidence))
		}
		if why := v.Why(); why != "" {
			_, _ = fmt.Fprintf(w, "        %s\n", printable(why))
		}
	}
	if m.Store != nil && m.Mappings != nil {
		_, _ = fmt.Fprintf(w, "  store %s bytes; mappings of all models %s\n", m.Store, m.Mappings)
	}
	m.Shadow.lines(w)
	m.Experiment.lines(w)
	for _, r := range m.Refused {
		_, _ = fmt.Fprintf(w, "  @%-4d refused   %s: %s\n", r.Number, r.At.UTC().Format(time.RFC3339), printable(r.Reason))
	}
	for _, q := range m.Quarantined {
		_, _ = fmt.Fprintf(w, "  drop  quarantined %s: %s\n", printable(q.Drop), printable(q.Reason))
	}
}
