package control

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/quadnine/quadnine/policy"
)

// PooledVersion is where a model version stands in the pool.
type PooledVersion struct {
	Model    string        `json:"model"`
	Number   uint64        `json:"number"`
	Root     string        `json:"root"`     // hex
	Decision string        `json:"decision"` // hold, promote, block
	Reason   string        `json:"reason,omitempty"`
	Node     string        `json:"node,omitempty"` // whose veto or word it was
	At       *time.Time    `json:"at,omitempty"`   // when it was decided
	Trials   []PooledTrial `json:"trials,omitempty"`
}

// PooledTrial is a version beside one active version.
type PooledTrial struct {
	Active     uint64          `json:"active"`
	ActiveRoot string          `json:"active_root"`
	Evidence   string          `json:"evidence"`
	Expect     string          `json:"expect"`
	Sidecars   []PooledSidecar `json:"sidecars"`
}

// PooledSidecar is what one sidecar has to say.
type PooledSidecar struct {
	Node     string `json:"node"`
	Trials   int    `json:"trials"` // more than one after a restart
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
	Veto     string `json:"veto,omitempty"` // why it has taken the version back
}

// Versions returns every version that the pool knows of, by model and number.
func (p *Pool) Versions() []PooledVersion {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[VersionID]*PooledVersion)
	of := func(v VersionID) *PooledVersion {
		if all[v] == nil {
			all[v] = &PooledVersion{Model: v.Model, Number: v.Number, Root: hex.EncodeToString(v.Root[:]), Decision: policy.Hold.String()}
		}
		return all[v]
	}
	for id, d := range p.decided {
		v := of(id)
		v.Reason, v.Node, v.At = d.reason, d.node, when(d.at)
		if v.Decision = d.verdict.String(); d.verdict == policy.Rollback {
			v.Decision = "block"
		}
	}
	for id, pr := range p.pairs {
		v := of(id.canary)
		v.Trials = append(v.Trials, pr.status(id.active, p.cfg))
	}
	out := make([]PooledVersion, 0, len(all))
	for _, v := range all {
		slices.SortFunc(v.Trials, func(a, b PooledTrial) int {
			return cmp.Or(cmp.Compare(a.Active, b.Active), cmp.Compare(a.ActiveRoot, b.ActiveRoot))
		})
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b PooledVersion) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Root, b.Root))
	})
	return out
}

func (of *pair) status(active VersionID, cfg policy.PoolConfig) PooledTrial {
	e := of.weigh(cfg)
	t := PooledTrial{Active: active.Number, ActiveRoot: hex.EncodeToString(active.Root[:]), Evidence: e.String(), Expect: e.Expect()}
	for _, name := range sortedKeys(of.nodes) {
		s := PooledSidecar{Node: name, Trials: len(of.nodes[name])}
		for _, r := range of.nodes[name] {
			s.Requests += r.summary.Canary.Requests
			s.Failures += r.summary.Canary.Failures
			if r.summary.Veto != policy.TooEarly {
				s.Veto = r.summary.Veto.String()
			}
		}
		t.Sidecars = append(t.Sidecars, s)
	}
	return t
}

// poolCounts are for metrics.
type poolCounts struct {
	streams                      int
	reports                      uint64
	undecided, promoted, blocked int
}

func (p *Pool) counts() (c poolCounts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.streams, c.reports = p.streams, p.reports
	for _, d := range p.decided {
		if d.verdict == policy.Promote {
			c.promoted++
		} else {
			c.blocked++
		}
	}
	open := make(map[VersionID]bool)
	for id := range p.pairs {
		if p.decided[id.canary] == nil {
			open[id.canary] = true
		}
	}
	c.undecided = len(open)
	return c
}

// count adds a stream, or takes one away.
func (p *Pool) count(n int) {
	p.mu.Lock()
	p.streams += n
	p.mu.Unlock()
}

func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	all := s.pool.Versions()
	if r.URL.Query().Get("format") == "json" {
		writeJSON(w, struct {
			Versions []PooledVersion `json:"versions"`
		}{all})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(all) == 0 {
		fmt.Fprintln(w, "no version was on trial on a sidecar with --model-pool")
	}
	for _, v := range all {
		fmt.Fprintf(w, "%s@%d %s, root %s\n", strconv.QuoteToGraphic(v.Model), v.Number, v.Decision, v.Root)
		if v.Reason != "" {
			fmt.Fprintf(w, "    %s\n", strconv.QuoteToGraphic(v.Reason))
		}
		for _, t := range v.Trials {
			fmt.Fprintf(w, "    beside @%d: %s\n    %s\n", t.Active, t.Evidence, t.Expect)
			for _, n := range t.Sidecars {
				fmt.Fprintf(w, "      %s: %d requests, %d failed", strconv.QuoteToGraphic(n.Node), n.Requests, n.Failures)
				if n.Veto != "" {
					fmt.Fprintf(w, ", taken back there: %s", n.Veto)
				}
				fmt.Fprintln(w)
			}
		}
	}
}
