package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
)

// newHealthcheck is the container image's HEALTHCHECK: an image without a shell
// has no other client.
func newHealthcheck() *cobra.Command {
	var admin string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask a running sidecar's admin port whether it is ready (exit 0) or not (exit 3)",
		Example: "  quadnine healthcheck\n  quadnine healthcheck --admin 127.0.0.1:9901",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := &http.Client{Timeout: 2 * time.Second}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, "http://"+admin+"/ready", http.NoBody)
			if err != nil {
				return usage(fmt.Errorf("--admin %q: %w", admin, err))
			}
			resp, err := client.Do(req)
			if err != nil {
				return &exitError{exitShort, fmt.Errorf("healthcheck: %w; is a sidecar running with --admin %s?", err, admin)}
			}
			defer func() { _ = resp.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			state := strings.TrimSpace(string(body))
			if resp.StatusCode != http.StatusOK {
				return &exitError{exitShort, fmt.Errorf("healthcheck: %s", state)}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), state)
			return err
		},
	}
	c.Flags().StringVar(&admin, "admin", console.DefaultAddr, "the sidecar's admin address")
	return c
}
