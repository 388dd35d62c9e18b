package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// newXDS groups what people ask about configuration that a management server
// gives.
func newXDS() *cobra.Command {
	c := &cobra.Command{
		Use:   "xds",
		Short: "Look at what a management server gives, and at what became of it",
		Long: `Ask a running sidecar or quadnine control which resources it has, in which
versions, and what was rejected and why; print the configuration; compare two.`,
		Example: `  quadnine xds status
  quadnine xds diff resources/ 127.0.0.1:9901`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newXDSStatus(), newXDSDump(), newXDSDiff())
	return withUsage(c)
}

// withUsage makes wrong arguments of c's subcommands end with the exit code for
// them.
func withUsage(c *cobra.Command) *cobra.Command {
	for _, sub := range c.Commands() {
		args := sub.Args
		sub.Args = func(cmd *cobra.Command, a []string) error {
			if err := args(cmd, a); err != nil {
				return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
			}
			return nil
		}
	}
	return c
}

func newXDSDump() *cobra.Command {
	var admin adminAddr
	c := &cobra.Command{
		Use:   "dump",
		Short: "Print the configuration in force as Envoy's config_dump (JSON)",
		Example: `  quadnine xds dump > before.json
  quadnine xds dump --admin 127.0.0.1:18001`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := admin.dump(cmd)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(body)
			return err
		},
	}
	c.Flags().StringVar((*string)(&admin), "admin", defaultAdmin, "admin address of a sidecar, of quadnine control or of an Envoy")
	return c
}

// dump returns the /config_dump of the process there, endpoints included.
func (a adminAddr) dump(cmd *cobra.Command) ([]byte, error) {
	status, body, err := a.ask(cmd.Context(), http.MethodGet, "/config_dump?include_eds")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: no config_dump there (status %d): is it the admin address of a sidecar that runs with -c, or of quadnine control?", a, status)
	}
	return body, err
}
