package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
)

func newModelRollback() *cobra.Command {
	var (
		admin  adminAddr
		reason string
	)
	c := &cobra.Command{
		Use:   "rollback MODEL VERSION",
		Short: "Take a version of a running sidecar's model back, for good",
		Long: `Take the canary or the active version back. The active version, or the one before
it, answers from then on; no request fails. The version stays refused, also after
a restart: its successor needs a higher number.`,
		Example: `  quadnine model rollback score 2 --reason "scores are too high for new tenants"`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := versionArg(args[1])
			if err != nil {
				return err
			}
			if strings.TrimSpace(reason) == "" {
				return usage(errors.New("--reason: say why, it is kept with the refusal"))
			}
			path := "/models/" + url.PathEscape(args[0]) + "/versions/" + strconv.FormatUint(version, 10) + "/rollback?reason=" + url.QueryEscape(reason)
			return admin.act(cmd, path, "rolled back")
		},
	}
	admin.flag(c)
	c.Flags().StringVar(&reason, "reason", "by hand", "why; kept with the refusal and shown by quadnine model ls")
	return c
}

// rollback takes a version back by hand, for console.Views.
func (a *models) rollback(ctx context.Context, model string, version uint64, reason string) error {
	err := a.loader.Rollback(ctx, model, version, reason)
	switch {
	case errors.Is(err, loader.ErrNoModel):
		return fmt.Errorf("%w: no model has that name; there are: %s", console.ErrNoVersion, orNone(a.loader.Models()))
	case errors.Is(err, loader.ErrNotServing):
		return a.notServing(model, version)
	case errors.Is(err, loader.ErrNoStandby):
		return fmt.Errorf("%w: no other version is mapped to answer instead: drop a good one with a higher number", console.ErrState)
	}
	if err != nil { // the switch was made all the same
		return fmt.Errorf("it is out of use, but may come back after a restart, for the refusal is not stored: %w", err)
	}
	return nil
}

// notServing says why a version that is neither canary nor active cannot be taken
// back.
func (a *models) notServing(model string, version uint64) error {
	if r, refused := a.loader.Refused(model)[version]; refused {
		return fmt.Errorf("%w: it was taken back already: %s", console.ErrState, r.Reason)
	}
	var have []string
	for _, s := range a.loader.Versions(model) {
		if s.Number == version {
			return fmt.Errorf("%w: it is %s: only the canary or the active version can be taken back", console.ErrState, s.State)
		}
		have = append(have, fmt.Sprintf("%d (%s)", s.Number, s.State))
	}
	return fmt.Errorf("%w: there are: %s", console.ErrNoVersion, orNone(have))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
