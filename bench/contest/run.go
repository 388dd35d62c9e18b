package contest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/rivals"
)

// Run runs the chosen cases. The report is complete but for what the error
// names: rivals that did not start or failed on the way.
func Run(ctx context.Context, o Options) (*Report, error) {
	list, err := o.chosen()
	if err != nil {
		return nil, err
	}
	certs, err := rivals.NewCerts(o.Dir)
	if err != nil {
		return nil, err
	}
	rep := &Report{Quick: o.Quick, Notes: map[string]string{}}
	defer func() { rep.Goals = judge(rep) }() // also of a run that was broken off
	var errs []error
	var s *stand
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	for _, c := range list {
		if s == nil || s.spec != c.stand {
			if s != nil {
				s.close()
			}
			if s, err = o.open(ctx, c.stand, certs); err != nil {
				return rep, errors.Join(append(errs, fmt.Errorf("case %s: %w", c.name, err))...)
			}
			for _, e := range s.entrants {
				if e.Note != "" {
					rep.Notes[e.Name] = e.Note
				}
				if e.failed != nil {
					errs = append(errs, e.failed)
				}
			}
		}
		began := time.Now()
		res, err := s.contest(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("case %s: %w", c.name, err))
		}
		if res != nil {
			rep.Results = append(rep.Results, res)
		}
		if ctx.Err() != nil {
			return rep, errors.Join(append(errs, context.Cause(ctx))...)
		}
		if o.Profile > 0 {
			shares, err := s.profile(ctx, c, res)
			if err != nil {
				errs = append(errs, fmt.Errorf("case %s: profile: %w", c.name, err))
			}
			if c.name == caseStatic {
				rep.Budget = shares
			}
		}
		fmt.Fprintf(o.Log, "case %s took %v\n", c.name, time.Since(began).Round(time.Second))
	}
	rep.Complete = true
	return rep, errors.Join(errs...)
}

// contest measures every entrant in every round.
func (s *stand) contest(ctx context.Context, c *testCase) (*Result, error) {
	res := &Result{Name: c.name, Title: c.title, Kind: c.kind, Rounds: s.rounds(c), Length: s.length(c)}
	if res.Kind == "" {
		res.Kind = Requests
	}
	if all, ok := c.load.(together); ok {
		err := all.measureAll(ctx, s, res)
		return res, err
	}
	var errs []error
	for _, e := range s.entrants {
		cell := &Cell{Rival: e.Name, Missing: e.Cannot[string(s.spec.mode)]}
		if why := e.Cannot[c.name]; why != "" {
			cell.Missing = why
		}
		if e.failed != nil {
			cell.Missing = firstLine(e.failed)
		}
		res.Cells = append(res.Cells, cell)
	}
	direct := &entrant{entrantSpec: entrantSpec{Rival: rivals.Rival{Name: "without a proxy"}}}
	if c.direct {
		res.Direct = &Cell{Rival: direct.Name}
		direct.run = &rivals.Running{Addr: s.place.To.H2}
	}
	turns := append([]*entrant{direct}, s.entrants...)
	for round := range res.Rounds {
		for n := range turns {
			i := (n + round) % len(turns) // nobody comes behind the same neighbor every time
			e, cell := turns[i], res.Direct
			if i > 0 {
				cell = res.Cells[i-1]
			}
			if cell == nil || cell.Missing != "" || cell.hopeless() {
				continue
			}
			sample, err := c.load.measure(ctx, s, e, res.Length)
			if ctx.Err() != nil {
				return res, context.Cause(ctx)
			}
			if err != nil {
				cell.Missing = firstLine(err)
				if !errors.Is(err, errLimit) {
					errs = append(errs, fmt.Errorf("%s, round %d: %w", e.Name, round+1, err))
				}
				fmt.Fprintf(s.Log, "%s %d/%d  %-22s %s\n", c.name, round+1, res.Rounds, e.Name, cell.Missing)
				continue
			}
			cell.Samples = append(cell.Samples, sample)
			fmt.Fprintf(s.Log, "%s %d/%d  %-22s %s\n", c.name, round+1, res.Rounds, e.Name, sample)
		}
	}
	return res, errors.Join(errs...)
}

// together is a load that measures all entrants at once.
type together interface {
	measureAll(ctx context.Context, s *stand, res *Result) error
}

// firstLine is what a footnote says of an error.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// String writes a sample for the progress.
func (s Sample) String() string {
	switch {
	case s.Behind:
		return fmt.Sprintf("fell behind: %.0f/s", s.PerSecond)
	case s.Anon > 0:
		return fmt.Sprintf("%.1f MB, %.1f anonymous", rss(s), anon(s))
	case s.Requests == 0:
		return fmt.Sprintf("%.3f %% of a core", s.Busy)
	case s.P50 > 0:
		return fmt.Sprintf("%7.2f µs  %.0f/s  p50 %v p99 %v, client and backend %.0f %%", s.micros(), s.PerSecond, s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond), s.Rest)
	default:
		return fmt.Sprintf("%7.2f µs  %.0f/s", s.micros(), s.PerSecond)
	}
}
