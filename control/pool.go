package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quadnine/quadnine/policy"
)

const (
	maxVersions    = 1024           // whose trials are remembered
	maxSidecars    = 10_000         // that report on one
	maxTrials      = 16             // of one sidecar on one version; the one not heard of for longest gives way
	forgetVersion  = 24 * time.Hour // after the last report on it
	maxBlocks      = 1024           // that are told to who comes later
	maxReasonBytes = 1 << 10

	// Weighing takes about 4 µs for each sidecar, and each reports every second. So
	// with more than these a canary is not weighed with every report, and takes 4 %
	// of a core at most.
	weighedAtOnce = 64
	weighedEvery  = 100 * time.Microsecond // for each sidecar
)

// VersionID is one version of a model. Two with one number and other roots are
// different.
type VersionID struct {
	Model  string
	Number uint64
	Root   [32]byte
}

// String returns "model@number (root)", with the root's first bytes.
func (v VersionID) String() string {
	return fmt.Sprintf("%s@%d (root %x)", v.Model, v.Number, v.Root[:6])
}

// pairID is a canary and what it is compared with.
type pairID struct{ canary, active VersionID }

// trialID is a trial of one start of a sidecar.
type trialID struct{ incarnation, number uint64 }

// report is the newest of a trial.
type report struct {
	sequence uint64
	summary  policy.Summary
	heard    uint64 // the pool's count of reports then
}

// pair is what is known of a canary beside one active version.
type pair struct {
	nodes   map[string]map[trialID]report
	seen    time.Time
	verdict policy.Evidence // as it was weighed last
	weighed time.Time       // and when
}

// decision is what was decided on a version, for good.
type decision struct {
	version  VersionID
	verdict  policy.Verdict // Promote or Rollback
	reason   string
	node     string // who was why; "": all of them together
	at       time.Time
	sidecars int
}

// Pool weighs the trials of sidecars together. It is safe for concurrent use.
type Pool struct {
	cfg policy.PoolConfig
	now func() time.Time

	mu      sync.Mutex
	pairs   map[pairID]*pair        // guarded by mu
	decided map[VersionID]*decision // guarded by mu
	blocks  []*decision             // guarded by mu; the newest last
	told    uint64                  // guarded by mu; how many blocks there ever were
	wake    chan struct{}           // guarded by mu; closed, and made anew, with each block and promotion
	streams int                     // guarded by mu
	reports uint64                  // guarded by mu
}

// NewPool returns a pool without evidence. The error is cfg.Validate's.
func NewPool(cfg policy.PoolConfig) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Pool{cfg: cfg, now: time.Now, pairs: make(map[pairID]*pair), decided: make(map[VersionID]*decision), wake: make(chan struct{})}, nil
}

// trial is one that a sidecar reports on.
type trial struct {
	pairID

	id      trialID
	summary policy.Summary
}

// opinion is what the pool says of a version.
type opinion struct {
	version        VersionID
	verdict        policy.Verdict
	reason, expect string
	sidecars       int
}

// report takes a sidecar's report and returns what is to be said of its trials.
// A report of an incarnation that is not newer than what there is changes
// nothing.
func (p *Pool) report(node string, sequence uint64, trials []trial) []opinion {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.reports++
	out := make([]opinion, 0, len(trials))
	for i := range trials {
		t := &trials[i]
		of := p.pairOf(t.pairID, now)
		of.seen = now
		veto := p.add(of, node, sequence, t)
		if veto || len(of.nodes) <= weighedAtOnce || now.Sub(of.weighed) >= time.Duration(len(of.nodes))*weighedEvery {
			of.verdict, of.weighed = of.weigh(p.cfg), now
		}
		out = append(out, p.judge(t.pairID, of, node, now))
	}
	return out
}

// pairOf returns a pair, which is made when new. mu is held.
func (p *Pool) pairOf(id pairID, now time.Time) *pair {
	if of := p.pairs[id]; of != nil {
		return of
	}
	maps.DeleteFunc(p.pairs, func(_ pairID, of *pair) bool { return now.Sub(of.seen) > forgetVersion })
	for len(p.pairs) >= maxVersions {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.pairs)), func(a, b pairID) int { return p.pairs[a].seen.Compare(p.pairs[b].seen) })
		delete(p.pairs, oldest)
	}
	of := &pair{nodes: make(map[string]map[trialID]report)}
	p.pairs[id] = of
	return of
}

// add keeps a trial's newest report, and says whether it has a veto that is new. mu
// is held.
func (p *Pool) add(of *pair, node string, sequence uint64, t *trial) (veto bool) {
	own := of.nodes[node]
	if own == nil {
		if len(of.nodes) >= maxSidecars {
			return false
		}
		own = make(map[trialID]report)
		of.nodes[node] = own
	}
	old, known := own[t.id]
	if known && old.sequence >= sequence {
		return false
	}
	if !known && len(own) >= maxTrials {
		delete(own, slices.MinFunc(slices.Collect(maps.Keys(own)), func(a, b trialID) int { return cmp.Compare(own[a].heard, own[b].heard) }))
	}
	own[t.id] = report{sequence, t.summary, p.reports}
	return t.summary.Veto != old.summary.Veto
}

// judge returns what is to be said of a canary, and decides when it can. mu is
// held.
func (p *Pool) judge(id pairID, of *pair, node string, now time.Time) opinion {
	e := of.verdict
	o := opinion{version: id.canary, sidecars: len(of.nodes), expect: fmt.Sprintf("%d sidecars: %s", len(of.nodes), e.Expect())}
	if e.Verdict != policy.Hold {
		who := ""
		if vetoed(of.nodes[node]) {
			who = node
		}
		p.decide(&decision{version: id.canary, verdict: e.Verdict, reason: fmt.Sprintf("by %d sidecars: %v", len(of.nodes), e), node: who, at: now, sidecars: len(of.nodes)})
	}
	if d := p.decided[id.canary]; d != nil {
		o.verdict, o.reason = d.verdict, d.reason
	}
	return o
}

func vetoed(of map[trialID]report) bool {
	for _, r := range of {
		if r.summary.Veto != policy.TooEarly {
			return true
		}
	}
	return false
}

// weigh weighs a pair's trials, those of one sidecar as one.
func (of *pair) weigh(cfg policy.PoolConfig) policy.Evidence {
	all := make([]policy.Summary, 0, len(of.nodes))
	for _, node := range sortedKeys(of.nodes) { // sums of floats depend on the order
		own := of.nodes[node]
		ids := slices.SortedFunc(maps.Keys(own), func(a, b trialID) int {
			return cmp.Or(cmp.Compare(a.incarnation, b.incarnation), cmp.Compare(a.number, b.number))
		})
		one := own[ids[0]].summary
		for _, t := range ids[1:] {
			s := own[t].summary
			one.Add(&s)
		}
		all = append(all, one)
	}
	return policy.Pool(cfg, all)
}

// decide makes a decision known. A block is the last word: a promotion never
// takes its place. mu is held.
func (p *Pool) decide(d *decision) {
	old := p.decided[d.version]
	if old != nil && (old.verdict == policy.Rollback || d.verdict == policy.Promote) {
		return
	}
	if old == nil && len(p.decided) >= 4*maxVersions {
		p.forget()
	}
	p.decided[d.version] = d
	if d.verdict == policy.Rollback {
		p.blocks = append(p.blocks, d)
		p.told++
		if len(p.blocks) > maxBlocks {
			p.blocks = slices.Delete(p.blocks, 0, 1)
		}
	}
	close(p.wake)
	p.wake = make(chan struct{})
}

// forget drops the oldest decision. mu is held.
func (p *Pool) forget() {
	oldest := slices.MinFunc(slices.Collect(maps.Values(p.decided)), func(a, b *decision) int { return a.at.Compare(b.at) })
	delete(p.decided, oldest.version)
	p.blocks = slices.DeleteFunc(p.blocks, func(d *decision) bool { return d == oldest })
}

// learn takes over what a sidecar was told is blocked, before this server was
// started. Where no veto of one sidecar holds for all, neither does its word.
func (p *Pool) learn(node string, of []VersionID) {
	if p.cfg.Spread == policy.SpreadNone {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range of {
		p.decide(&decision{version: v, verdict: policy.Rollback, reason: "blocked before, as " + node + " knows", node: node, at: p.now(), sidecars: 1})
	}
}

// since returns the blocks that came after the first n that ever were, how many
// there ever were, and a channel that is closed when there is more to be told.
func (p *Pool) since(n uint64) (out []opinion, now uint64, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := min(p.told-n, uint64(len(p.blocks)))
	for _, d := range p.blocks[uint64(len(p.blocks))-fresh:] {
		out = append(out, opinion{version: d.version, verdict: d.verdict, reason: d.reason, sidecars: d.sidecars})
	}
	return out, p.told, p.wake
}

// opinions returns what is to be said now of the pairs that a sidecar reported on.
func (p *Pool) opinions(of []trial) (out []opinion) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range of {
		if d := p.decided[of[i].canary]; d != nil {
			out = append(out, opinion{version: d.version, verdict: d.verdict, reason: d.reason, sidecars: d.sidecars})
		}
	}
	return out
}
