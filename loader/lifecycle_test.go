package loader

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// TestLifecycle plays the scripts in testdata/lifecycle. A line is one or more
// events, ----, and the versions afterwards, with what else happened in brackets.
// UPDATE=1 writes what happens into them.
//
//	drop vN [on vM] [weight W] [promote-after D] [schema N] [env NAME] [shadow P] [queries Q]   a full drop, or a delta
//	damage vN        the drop's file gets a wrong byte before it is reported (put it first)
//	report vN        the source tells of a drop again
//	pass vN, fail vN                  what the judge says from now on
//	hold vN, release vN               take and give back a lease
//	shadow vN P                       by hand; P 0 ends it
//	compared vN                       that the shadow was compared often enough
//	start NAME vA=W vB=W, stop NAME [vN]   an experiment, and its winner
//	rollback vN, activate vN, reactivate vN, weight W, advance D, restart
func TestLifecycle(t *testing.T) {
	scripts, err := filepath.Glob("testdata/lifecycle/*.txt")
	if err != nil || len(scripts) < 5 {
		t.Fatal(scripts, err)
	}
	for _, name := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(name)
			must(t, err)
			synctest.Test(t, func(t *testing.T) {
				got := play(t, string(b))
				if os.Getenv("UPDATE") != "" {
					must(t, os.WriteFile(name, []byte(got), 0o644))
				} else if got != string(b) {
					t.Errorf("%s:\n%s\nwant:\n%s", name, got, b)
				}
			})
		})
	}
}

// player plays one script.
type player struct {
	*rig

	leases  map[uint64][]Lease
	damaged map[uint64]bool
	refused []string // what was asked for by hand and not done
}

// refuse notes what could not be done.
func (p *player) refuse(err error) {
	if err != nil {
		p.refused = append(p.refused, "refused: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	p := &player{rig: newRig(t, nil), leases: make(map[uint64][]Lease), damaged: make(map[uint64]bool)}
	defer func() { p.close() }()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		cmds, _, _ := strings.Cut(line, "----")
		cmds = strings.TrimRight(cmds, " ")
		if cmds == "" || cmds[0] == '#' {
			fmt.Fprintln(&out, line)
			continue
		}
		for cmd := range strings.SplitSeq(cmds, " · ") {
			p.do(strings.Fields(cmd))
			synctest.Wait()
		}
		fmt.Fprintf(&out, "%-44s ---- %s\n", cmds, p.status())
	}
	return out.String()
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(s, "v"), 10, 64)
	return n
}

func (p *player) do(words []string) {
	t := p.t
	t.Helper()
	n := uint64(0)
	if len(words) > 1 {
		n = number(words[1])
	}
	switch words[0] {
	case "drop":
		p.dropLine(n, words[2:])
	case "report":
		p.report(words[1])
	case "damage":
		p.damaged[n] = true
	case "pass":
		p.judge.say(n, Promote)
	case "fail":
		p.judge.say(n, Rollback)
	case "hold":
		lease, err := p.l.AcquireVersion("score", n)
		must(t, err)
		p.leases[n] = append(p.leases[n], lease)
	case "release":
		p.leases[n][0].Release()
		p.leases[n] = p.leases[n][1:]
	case "rollback":
		p.refuse(p.l.Rollback(t.Context(), "score", n, "by hand"))
	case "activate":
		p.refuse(p.l.Activate(t.Context(), "score", n))
	case "reactivate":
		p.refuse(p.l.Reactivate(t.Context(), "score", n))
	case "weight":
		w, err := strconv.ParseFloat(words[1], 64)
		must(t, err)
		must(t, p.l.SetCanary("score", &w))
	case "shadow":
		percent, err := strconv.ParseFloat(words[2], 64)
		must(t, err)
		p.refuse(p.l.Shadow(t.Context(), "score", n, percent))
	case "compared":
		p.judge.sayCompared(n)
	case "start":
		e := Experiment{Name: words[1]}
		for _, arm := range words[2:] {
			v, weight, _ := strings.Cut(arm, "=")
			w, err := strconv.ParseFloat(weight, 64)
			must(t, err)
			e.Arms = append(e.Arms, Arm{Version: number(v), Weight: w})
		}
		p.refuse(p.l.StartExperiment(t.Context(), "score", e))
	case "stop":
		winner := uint64(0)
		if len(words) > 2 {
			winner = number(words[2])
		}
		p.refuse(p.l.StopExperiment(t.Context(), "score", words[1], winner))
	case "advance":
		d, err := time.ParseDuration(words[1])
		must(t, err)
		time.Sleep(d)
	case "restart":
		p.close()
		p.open()
	default:
		t.Fatalf("unknown event %q", words)
	}
}

func (p *player) dropLine(n uint64, words []string) {
	base := uint64(0)
	name := fmt.Sprintf("v%d", n)
	p.pack(name, n, baseOf(words, &base), func(pack *delta.Pack) {
		for i := 0; i+1 < len(words); i += 2 {
			switch words[i] {
			case "weight":
				pack.Manifest.Canary.Weight, _ = strconv.ParseFloat(words[i+1], 64)
			case "promote-after":
				pack.Manifest.Canary.PromoteAfter, _ = time.ParseDuration(words[i+1])
			case "schema":
				pack.Manifest.SchemaVersion, _ = strconv.Atoi(words[i+1])
			case "shadow":
				percent, _ := strconv.ParseFloat(words[i+1], 64)
				pack.Manifest.Shadow = &delta.Shadow{Percent: percent}
				pack.Manifest.Eval = &delta.Eval{Kind: delta.EvalRatio, Metric: "score", Input: map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}}, Weights: map[string]string{"scale": "weight", "bias": "weight"}}
			case "queries":
				pack.Manifest.Shadow.Queries, _ = strconv.ParseInt(words[i+1], 10, 64)
			case "env":
				pack.Manifest.RequiredEnv = []string{words[i+1]}
			}
		}
	})
	if p.damaged[n] {
		for _, f := range []string{"model.safetensors", name + ".qd"} {
			flip(p.t, filepath.Join(p.drops, name, f), -1)
		}
	}
	p.report(name)
}

func baseOf(words []string, base *uint64) uint64 {
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == "on" {
			*base = number(words[i+1])
		}
	}
	return *base
}

// flip changes one byte of a file, counted from its end when at is negative. A
// file that is not there is left alone.
func flip(tb testing.TB, name string, at int64) {
	tb.Helper()
	if err := flipByte(name, at); !os.IsNotExist(err) {
		must(tb, err)
	}
}

func flipByte(name string, at int64) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x40
	return os.WriteFile(name, b, 0o644)
}

// status describes the versions and what else happened.
func (p *player) status() string {
	var parts []string
	for _, v := range p.l.Versions("score") {
		s := fmt.Sprintf("v%d %s", v.Number, v.State)
		if v.State == Canary || v.Weight != 0 {
			s += fmt.Sprintf(" %g%%", v.Weight)
		}
		if v.Beside != 0 {
			s += fmt.Sprintf(" beside %g%%", v.Beside)
		}
		parts = append(parts, s)
		if v.State == Active {
			p.serves(v.Number)
		}
	}
	if parts == nil {
		parts = []string{"nothing"}
	}
	what := p.refused
	p.refused = nil
	for len(p.l.Events()) > 0 {
		switch ev := <-p.l.Events(); ev.Kind {
		case EventRolledBack:
			what = append(what, fmt.Sprintf("v%d rolled back to v%d: %s", ev.From, ev.Version, ev.Reason))
		case EventUnloadSuccess:
			what = append(what, fmt.Sprintf("v%d freed after %v", ev.Version, ev.Took))
		case EventUnloadTimeout:
			what = append(what, fmt.Sprintf("v%d freed after %v, forced, %d lease revoked", ev.Version, ev.Took, ev.Leases))
		case EventExperiment:
			what = append(what, ev.Reason)
		case EventQuarantined, EventWaiting, EventLost, EventStore:
			what = append(what, fmt.Sprintf("v%d %s: %s", ev.Version, strings.TrimPrefix(string(ev.Kind), "model."), ev.Reason))
		}
	}
	s := strings.Join(parts, ", ")
	if what != nil {
		s += " [" + strings.Join(what, "; ") + "]"
	}
	return s
}
