package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
)

func newModelExperiment() *cobra.Command {
	c := &cobra.Command{
		Use:   "experiment",
		Short: "Begin, end and look at experiments over a model's versions",
		Long: `An experiment spreads a model's callers over two or three versions that all keep
serving. A caller stays on its version. What each version did is counted, and
compared with the active one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newExperimentStart(), newExperimentStop(), newExperimentShow())
	return c
}

func newExperimentStart() *cobra.Command {
	var (
		admin adminAddr
		texts []string
		by    string
	)
	c := &cobra.Command{
		Use:   "start MODEL NAME",
		Short: "Begin an experiment over the active version and the canary, the standby, or both",
		Long: `Begin an experiment. Every --arm is a version and its weight; the active version
has to be one of them. While it runs no version is promoted or replaced and new
drops wait; a version that answers NaN or an infinity is taken back all the same.
Started again under its name with other weights it goes on with these, and only
callers from and to the arms whose weights changed move. It is kept over a restart.`,
		Example: `  quadnine model experiment start score ratio-or-difference --arm 1=50 --arm 2=50
  quadnine model experiment start score by-device --arm 1=90 --arm 2=10 --by x-device-id`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			for _, text := range texts {
				if _, err := console.ParseArm(text); err != nil {
					return usage(fmt.Errorf("--arm: %w", err))
				}
				q.Add("arm", text)
			}
			if len(texts) < 2 {
				return usage(fmt.Errorf("--arm: is given %d times, want two or more, like --arm 1=50 --arm 2=50", len(texts)))
			}
			if by != "" {
				q.Set("by", by)
			}
			return admin.act(cmd, experimentPath(args, "start")+"?"+q.Encode(), "running")
		},
	}
	admin.flag(c)
	c.Flags().StringArrayVar(&texts, "arm", nil, "a version and its weight, like 2=50; repeat for each")
	c.Flags().StringVar(&by, "by", "", "request header whose value a caller is known by (default: the user, x-user-id)")
	return c
}

func experimentPath(args []string, what string) string {
	return "/models/" + url.PathEscape(args[0]) + "/experiments/" + url.PathEscape(args[1]) + "/" + what
}

func newExperimentStop() *cobra.Command {
	var (
		admin  adminAddr
		winner uint64
	)
	c := &cobra.Command{
		Use:   "stop MODEL NAME",
		Short: "End an experiment, with a winner or without",
		Long: `End an experiment. With --winner that version becomes the active one, and a canary
that is not it is taken back. Without, versions stay what they are, and a canary is
tried again from the start.`,
		Example: `  quadnine model experiment stop score ratio-or-difference --winner 2`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := experimentPath(args, "stop")
			if cmd.Flags().Changed("winner") {
				if winner == 0 {
					return usage(fmt.Errorf("--winner 0: want the number of a version"))
				}
				path += "?winner=" + strconv.FormatUint(winner, 10)
			}
			return admin.act(cmd, path, "stopped")
		},
	}
	admin.flag(c)
	c.Flags().Uint64Var(&winner, "winner", 0, "the version that becomes the active one (default: none)")
	return c
}

func newExperimentShow() *cobra.Command {
	var (
		admin  adminAddr
		format report
	)
	c := &cobra.Command{
		Use:     "show MODEL",
		Short:   "Show what each version of an experiment did, and how it differs from the active one",
		Example: `  quadnine model experiment show score`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			m, err := admin.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if m.Experiment == nil {
				return fmt.Errorf("%s: no experiment runs, or ran since the start: see quadnine model experiment start --help", shown(args[0]))
			}
			return format.print(cmd.OutOrStdout(), m.Experiment, func(w io.Writer) error { return printExperiment(w, m.Experiment) })
		},
	}
	admin.flag(c)
	format.flag(c)
	return c
}

func printExperiment(w io.Writer, e *console.Experiment) error {
	by := e.By
	if by == "" {
		by = "user"
	}
	fmt.Fprintf(w, "%s by %s, counted since %s: %s\n", shown(e.Name), shown(by), e.Counted.UTC().Format(time.RFC3339), oneLine(e.Outcome))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "VERSION\tCALLERS\tREQUESTS\tFAILED\tP50\tP95\tP99\tMEAN\tDEVIATION\tMEAN DIFFERS\tFAILURE SHARE DIFFERS\n")
	for i := range e.Arms {
		a := &e.Arms[i]
		mean, deviation, share := "-", "-", fmt.Sprintf("%.4g %%", a.Percent)
		if a.Answers > 0 && a.Mean != nil && a.Variance != nil {
			mean, deviation = fmt.Sprintf("%.6g", *a.Mean), fmt.Sprintf("%.3g", math.Sqrt(*a.Variance))
		}
		switch {
		case a.Ended != "":
			share = "ended"
		case a.Away:
			share = "away"
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Version, share, a.Requests, a.Failures,
			took(a.P50), took(a.P95), took(a.P99), mean, deviation, differs(a, a.MeanDifference), differs(a, a.FailureDifference))
	}
	return t.Flush()
}

func took(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func differs(a *console.Arm, i *console.Interval) string {
	switch {
	case a.Control:
		return "control"
	case i == nil:
		return "-"
	default:
		return i.String()
	}
}

// startExperiment begins an experiment, for console.Views.
func (a *models) startExperiment(ctx context.Context, model, name, by string, arms []console.ArmShare) error {
	e := loader.Experiment{Name: name, By: by}
	for _, s := range arms {
		e.Arms = append(e.Arms, loader.Arm{Version: s.Version, Weight: s.Weight})
	}
	return a.explainStudy(a.loader.StartExperiment(ctx, model, e), model)
}

// stopExperiment ends an experiment, for console.Views.
func (a *models) stopExperiment(ctx context.Context, model, name string, winner uint64) error {
	return a.explainStudy(a.loader.StopExperiment(ctx, model, name, winner), model)
}
