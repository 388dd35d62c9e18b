package contest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// idle reads what everybody uses while nobody asks, all at once.
type idle struct{}

func (idle) measure(context.Context, *stand, *entrant, time.Duration) (Sample, error) {
	return Sample{}, nil
}

func (idle) start(context.Context, *stand, *entrant, time.Duration) (*proc.Proc, error) {
	return nil, nil
}

func (idle) measureAll(ctx context.Context, s *stand, res *Result) error {
	before := make([]time.Duration, len(s.entrants))
	var errs []error
	read := func(i int, cell *Cell) (used time.Duration) {
		e := s.entrants[i]
		if cell.Missing != "" {
			return 0
		}
		if e.run == nil {
			cell.Missing = firstLine(e.failed)
			return 0
		}
		used, err := e.run.CPU()
		if err != nil {
			cell.Missing = firstLine(err)
			errs = append(errs, err)
		}
		return used
	}
	for i, e := range s.entrants {
		res.Cells = append(res.Cells, &Cell{Rival: e.Name})
		before[i] = read(i, res.Cells[i])
	}
	fmt.Fprintf(s.Log, "idle for %v\n", res.Length)
	began := time.Now()
	if err := pause(ctx, res.Length); err != nil {
		return err
	}
	took := time.Since(began)
	for i, cell := range res.Cells {
		if used := read(i, cell) - before[i]; cell.Missing == "" {
			cell.Samples = []Sample{{Busy: 100 * used.Seconds() / took.Seconds()}}
			fmt.Fprintf(s.Log, "idle  %-22s %s\n", cell.Rival, cell.Samples[0])
		}
	}
	return errors.Join(errs...)
}
