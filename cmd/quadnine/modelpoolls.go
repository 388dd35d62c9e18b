package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/control"
)

// defaultControlAdmin is where `quadnine control` has its pages.
const defaultControlAdmin = "127.0.0.1:18001"

func newModelPool() *cobra.Command {
	var (
		admin  adminAddr
		format report
	)
	c := &cobra.Command{
		Use:   "pool",
		Short: "List the versions that the sidecars of a quadnine control judge together",
		Example: `  quadnine model pool
  quadnine model pool --admin 127.0.0.1:18001 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			status, body, err := admin.ask(cmd.Context(), http.MethodGet, "/models?format=json")
			if err != nil {
				return err
			}
			var list pooledList
			if err := json.Unmarshal(body, &list); status != http.StatusOK || err != nil || list.Versions == nil {
				return fmt.Errorf("http://%s/models: not the page of a quadnine control (status %d): name its admin address", admin, status)
			}
			return format.print(cmd.OutOrStdout(), list, list.print)
		},
	}
	c.Flags().StringVar((*string)(&admin), "admin", defaultControlAdmin, "admin address of the quadnine control")
	format.flag(c)
	return c
}

// pooledList is /models of a quadnine control.
type pooledList struct {
	Versions []control.PooledVersion `json:"versions"`
}

func (l pooledList) print(w io.Writer) error {
	if len(l.Versions) == 0 {
		_, err := fmt.Fprintln(w, "no version yet: sidecars report here when they run with --model-pool and have a canary")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "MODEL\tVERSION\tROOT\tDECISION\tBESIDE\tSIDECARS\tWHY\n")
	for _, v := range l.Versions {
		row := func(beside, sidecars, why string) {
			fmt.Fprintf(t, "%s\t%d\t%.12s\t%s\t%s\t%s\t%s\n", modelName(v.Model), v.Number, v.Root, v.Decision, beside, sidecars, oneLine(why))
		}
		for _, x := range v.Trials {
			why := x.Expect
			if v.Reason != "" {
				why = v.Reason
			}
			row(strconv.FormatUint(x.Active, 10), strconv.Itoa(len(x.Sidecars)), why)
		}
		if len(v.Trials) == 0 {
			row("-", "-", v.Reason)
		}
	}
	return t.Flush()
}
