package xds

import (
	"context"
	"fmt"
)

// profiled runs every kind of change in turn on quadnine alone while its profile
// is taken.
func (s *stand) profiled(ctx context.Context) error {
	c := s.pair[1]
	done := make(chan error, 1)
	go func() { done <- s.Profile(ctx, c.admin) }()
	var dropped samples
	for {
		for _, kind := range changes() {
			if err := s.server.quiet(ctx, c.name, calm/10); err != nil {
				return err
			}
			if err := s.once(ctx, c, kind, &dropped); err != nil {
				return fmt.Errorf("%s, %q, while profiled: %w", c.name, kind.name, err)
			}
		}
		select {
		case err := <-done:
			return err
		default:
		}
	}
}
