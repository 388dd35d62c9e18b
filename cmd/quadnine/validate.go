package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/xds/bootstrap"
	"github.com/quadnine/quadnine/xds/compile"
)

// validateBootstrap is --mode validate: what is static compiles, and what has no
// effect is listed.
func validateBootstrap(cmd *cobra.Command, b *bootstrap.Bootstrap, strict bool) error {
	c := compile.New()
	c.Strict = strict
	notes, err := compileBootstrap(b, c)
	if err := errors.Join(b.Identified(), err); err != nil {
		return usage(err)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), "no effect:", n); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "configuration OK")
	return err
}
