package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/control"
	"github.com/quadnine/quadnine/xds"
)

const defaultAdmin = console.DefaultAddr

func newXDSStatus() *cobra.Command {
	var (
		admin  adminAddr
		node   string
		all    bool
		check  bool
		format report
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Say where each resource stands: of a sidecar, or of the nodes of quadnine control",
		Long: `Of a sidecar: the stream, how many resources of each kind are in use, and those
that are not, with the reason; --all lists them all. Of quadnine control: its
nodes, and what they rejected; --node lists all resources of one.`,
		Example: `  quadnine xds status
  quadnine xds status --admin 127.0.0.1:18001 --node sidecar-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			v, err := askStatus(cmd, admin, node)
			if err != nil {
				return err
			}
			var bad int
			switch s := v.(type) {
			case *xds.Status:
				bad = rejectedOf(s)
				err = format.print(cmd.OutOrStdout(), s, func(w io.Writer) error { return printSidecar(w, s, all) })
			case *control.Status:
				bad = rejectedByNodes(s)
				err = format.print(cmd.OutOrStdout(), s, func(w io.Writer) error { return printControl(w, s) })
			}
			if err == nil && check && bad > 0 {
				return &exitError{exitShort, fmt.Errorf("xds status: %d rejected", bad)}
			}
			return err
		},
	}
	c.Flags().StringVar((*string)(&admin), "admin", defaultAdmin, "admin address of a sidecar or of quadnine control")
	c.Flags().StringVar(&node, "node", "", "of quadnine control: all resources of the node with this id")
	c.Flags().BoolVar(&all, "all", false, "of a sidecar: list resources that are in use, too")
	c.Flags().BoolVar(&check, "check", false, "exit with 3 when anything is rejected or the newest files are not valid")
	format.flag(c)
	return c
}

// askStatus returns the *xds.Status of a sidecar or the *control.Status of a
// management server.
func askStatus(cmd *cobra.Command, admin adminAddr, node string) (any, error) {
	status, body, err := admin.ask(cmd.Context(), http.MethodGet, "/xds/status")
	if err != nil {
		return nil, err
	}
	path, v := "/xds/status", any(new(xds.Status))
	if status == http.StatusNotFound {
		path, v = "/status", new(control.Status)
		if status, body, err = admin.ask(cmd.Context(), http.MethodGet, "/status?node="+url.QueryEscape(node)); err != nil {
			return nil, err
		}
	} else if node != "" {
		return nil, usage(fmt.Errorf("--node: at %s is a sidecar, which knows of itself only", admin))
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s: neither a sidecar that runs with -c nor quadnine control is there (status %d)", admin, status)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("http://%s%s: %w", admin, path, err)
	}
	if s, ok := v.(*control.Status); ok && node != "" && len(s.Nodes) == 0 {
		return nil, fmt.Errorf("%s: no node %q has been there", admin, node)
	}
	return v, nil
}

func rejectedOf(s *xds.Status) (n int) {
	for _, r := range s.Resources {
		if r.State == xds.Refused {
			n++
		}
	}
	return n
}

// rejectedByNodes counts the resources that nodes rejected, those that are nothing
// against a version, such as an address in use on one node, too.
func rejectedByNodes(s *control.Status) int {
	groups, nodes := 0, 0
	for _, g := range s.Groups {
		groups += len(g.Rejected)
	}
	for _, n := range s.Nodes {
		for _, a := range n.APIs {
			if n.Streams > 0 {
				nodes += a.Rejected
			}
		}
	}
	return max(groups, nodes) + len(s.Config.Errors)
}

func printSidecar(w io.Writer, s *xds.Status, all bool) error {
	fmt.Fprintln(w, streamLine(s))
	if s.Stale != nil {
		fmt.Fprintf(w, "stale: %s come from disk, %s old; no server has confirmed them\n", strings.Join(s.Stale.APIs, ", "), s.Stale.Age)
	}
	for _, trouble := range []struct{ what, says string }{{"last error", s.LastError}, {"not applied", s.Unapplied}, {"last good configuration", s.Store}} {
		if trouble.says != "" {
			fmt.Fprintf(w, "%s: %s\n", trouble.what, oneLine(trouble.says))
		}
	}
	counts := make(map[string]map[xds.State]int)
	var rows []xds.ResourceStatus
	for _, r := range s.Resources {
		if counts[r.API] == nil {
			counts[r.API] = make(map[xds.State]int)
		}
		counts[r.API][r.State]++
		if all || r.State != xds.Active && !r.Static || r.Error != "" {
			rows = append(rows, r)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nAPI\tVERSION\tACTIVE\tOTHER\tREJECTED\tUPDATES\tIGNORED FIELDS\n")
	for _, a := range s.APIs {
		of, total := counts[a.API], 0
		for _, n := range of {
			total += n
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", a.API, version12(a.Version), of[xds.Active], total-of[xds.Active]-of[xds.Refused], of[xds.Refused], a.Updates, a.Ignored)
	}
	if err := t.Flush(); err != nil || len(rows) == 0 {
		return err
	}
	fmt.Fprint(t, "\nAPI\tNAME\tSTATE\tRECEIVED\tIN USE\tSINCE\tWHY\n")
	for _, r := range rows {
		why := r.Error
		if len(r.WaitsFor) > 0 {
			why = strings.TrimPrefix(why+"; waits for "+strings.Join(r.WaitsFor, ", "), "; ")
		}
		if why == "" && all && len(r.Ignored) > 0 {
			why = "no effect: " + strings.Join(r.Ignored, "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.API, shown(r.Name), r.State, version12(r.Received), version12(r.InUse), clock(r.Since), oneLine(why))
	}
	return t.Flush()
}

// streamLine says how the stream is.
func streamLine(s *xds.Status) string {
	switch {
	case s.Server == "":
		return "no management server: all resources are the bootstrap's"
	case !s.Connected:
		return fmt.Sprintf("management server %s: not connected, for %s", s.Server, cmp.Or(s.DownFor, "ever"))
	}
	words := []string{fmt.Sprintf("management server %s: connected for %s", s.Server, s.StreamAge)}
	if s.Variant != "" {
		words = append(words, s.Variant)
	}
	for _, at := range []struct {
		what string
		t    *time.Time
	}{{"last ACK", s.LastACK}, {"last NACK", s.LastNACK}} {
		if at.t != nil {
			words = append(words, at.what+" "+clock(*at.t))
		}
	}
	return strings.Join(words, ", ")
}

func printControl(w io.Writer, s *control.Status) error {
	fmt.Fprintf(w, "%s: %d resources, read %s\n", s.Config.Dir, s.Config.Resources, clock(s.Config.Loaded))
	if s.Config.Failing != nil {
		fmt.Fprintf(w, "the newest files are not valid, since %s; what was served before still is:\n", clock(*s.Config.Failing))
	}
	for _, e := range s.Config.Errors {
		fmt.Fprintf(w, "  %s\n", oneLine(e))
	}
	for _, warning := range s.Config.Warnings {
		fmt.Fprintf(w, "warning: %s\n", oneLine(warning))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nNODE\tCLUSTER\tGROUP\tSTREAM\tCDS\tEDS\tLDS\tRDS\tRTDS\tSEEN\n")
	for _, n := range s.Nodes {
		stream := n.Variant
		if n.Streams == 0 {
			stream = "gone"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", modelName(n.ID), modelName(n.Cluster), modelName(n.Group), stream, strings.Join(nodeCells(n), "\t"), clock(n.Seen))
	}
	if len(s.Nodes) == 0 {
		fmt.Fprint(t, "(none yet)\n")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if slices.ContainsFunc(s.Groups, func(g control.GroupStatus) bool { return len(g.Rejected) > 0 }) {
		fmt.Fprint(t, "\nREJECTED\tNAME\tVERSION\tNODES\tFIRST\tNEWCOMERS GET\tWHERE\tWHY\n")
		for _, g := range s.Groups {
			for _, r := range g.Rejected {
				fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.API, shown(r.Name), version12(r.Version), r.Nodes, shown(r.Node), version12(r.Instead), r.Where, oneLine(r.Reason))
			}
		}
	}
	for _, n := range s.Nodes {
		if len(n.Resources) > 0 {
			fmt.Fprintf(t, "\n%s\tNAME\tSTATE\tSENT\tACCEPTED\tNACKS\tSINCE\tWHERE\tWHY\n", shown(n.ID))
		}
		for _, r := range n.Resources {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.API, shown(r.Name), r.State, version12(r.Sent), version12(r.Accepted), r.NACKs, clock(r.Since), r.Where, oneLine(r.Reason))
		}
	}
	return t.Flush()
}

// nodeCells says of each kind how many resources a node accepted, rejected (!)
// and was sent without an answer (?).
func nodeCells(n control.NodeStatus) []string {
	out := make([]string, len(control.Kinds()))
	for i, k := range control.Kinds() {
		out[i] = "-"
		for _, a := range n.APIs {
			if a.API != k.String() {
				continue
			}
			out[i] = strconv.Itoa(a.Accepted)
			if a.Rejected > 0 {
				out[i] += " " + strconv.Itoa(a.Rejected) + "!"
			}
			if a.Pending > 0 {
				out[i] += " " + strconv.Itoa(a.Pending) + "?"
			}
		}
	}
	return out
}

// version12 is a version that fits a column: those of deltas are long hashes.
func version12(v string) string {
	if v == "" {
		return "-"
	}
	if len(v) > 12 {
		v = v[:12]
	}
	return shown(v)
}

func clock(t time.Time) string { return t.Local().Format(time.DateTime) }
