package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/control"
)

func newXDSDiff() *cobra.Command {
	var (
		format report
		group  string
	)
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what is different between two configurations (exit 3 when anything is)",
		Long: `Each of A and B is a directory or file of resources, a config_dump in a file, or
the admin address (host:port) of a running sidecar, of quadnine control or of an
Envoy. What a bootstrap holds is left out.`,
		Example: `  quadnine xds diff resources/ 127.0.0.1:9901
  quadnine xds diff before.json after.json --format json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			var sides [2]*control.Group
			for i, arg := range args {
				var err error
				if sides[i], err = readSide(cmd, arg, group); err != nil {
					return err
				}
			}
			diff := control.Diff(sides[0], sides[1])
			if diff == nil {
				diff = []control.Difference{}
			}
			if err := format.print(cmd.OutOrStdout(), diff, func(w io.Writer) error { return printXDSDiff(w, diff, sides) }); err != nil {
				return err
			}
			if len(diff) > 0 {
				return &exitError{code: exitShort}
			}
			return nil
		},
	}
	c.Flags().StringVar(&group, "nodes", "", "of directories: what the nodes of nodes/NAME get")
	format.flag(c)
	return c
}

// readSide reads one of the two.
func readSide(cmd *cobra.Command, arg, group string) (*control.Group, error) {
	info, err := os.Stat(arg)
	if err != nil {
		addr := adminAddr(strings.TrimSuffix(strings.TrimPrefix(arg, "http://"), "/"))
		if host, port, e := net.SplitHostPort(string(addr)); !errors.Is(err, fs.ErrNotExist) || e != nil || host == "" || port == "" {
			return nil, usage(fmt.Errorf("%s: is neither a file nor host:port: %w", arg, err))
		}
		body, err := addr.dump(cmd)
		if err != nil {
			return nil, err
		}
		return control.ReadDump(string(addr), body)
	}
	if info.Mode().IsRegular() {
		data, err := os.ReadFile(arg)
		if err != nil {
			return nil, err
		}
		var dump struct {
			Configs json.RawMessage `json:"configs"`
		}
		if json.Unmarshal(data, &dump) == nil && dump.Configs != nil {
			return control.ReadDump(arg, data)
		}
		group = ""
	}
	return control.Read(arg, group)
}

func printXDSDiff(w io.Writer, diff []control.Difference, sides [2]*control.Group) error {
	marks := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, d := range diff {
		fmt.Fprintf(w, "%s %s %s\n", marks[d.Change], d.API, shown(d.Name))
		for _, f := range d.Fields {
			fmt.Fprintf(w, "    %s: %s → %s\n", f.Path, side(f.Before), side(f.After))
		}
	}
	_, err := fmt.Fprintf(w, "%d different, of %d and %d resources\n", len(diff), sides[0].Len(), sides[1].Len())
	return err
}

// side is a value for a line.
func side(s string) string {
	if s == "" {
		return "(not set)"
	}
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return oneLine(s)
}
