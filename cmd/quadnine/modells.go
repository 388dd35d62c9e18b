package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
)

func newModelLs() *cobra.Command {
	var (
		admin  adminAddr
		format report
	)
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the models of a running sidecar, their versions, and what was refused or quarantined",
		Example: `  quadnine model ls
  quadnine model ls --admin 127.0.0.1:9901 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			status, body, err := admin.ask(cmd.Context(), http.MethodGet, "/models?format=json")
			if err != nil {
				return err
			}
			if status != http.StatusOK {
				return admin.refused(status, body)
			}
			var list modelList
			if err := json.Unmarshal(body, &list); err != nil {
				return fmt.Errorf("http://%s/models: %w: is it the admin address of a sidecar?", admin, err)
			}
			return format.print(cmd.OutOrStdout(), list, list.print)
		},
	}
	admin.flag(c)
	format.flag(c)
	return c
}

// modelList is the admin port's /models.
type modelList struct {
	Models []console.Model `json:"models"`
}

func (l modelList) print(w io.Writer) error {
	if len(l.Models) == 0 {
		_, err := fmt.Fprintln(w, "no model yet: put a drop, made by quadnine model pack, into the sidecar's --models directory")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "MODEL\tVERSION\tSTATE\tCALLERS\tLEASES\tSINCE\tWHY\n")
	for _, m := range l.Models {
		for _, r := range rowsOf(m) {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", modelName(m.Name), r.version, r.state, r.callers, r.leases, r.since, oneLine(r.why))
		}
	}
	return t.Flush()
}

// modelName is shown for drops of no known model too.
func modelName(name string) string {
	if name == "" {
		return "-"
	}
	return shown(name)
}

// modelRow is a line of the table: a version, or a drop that none came of.
type modelRow struct {
	number                                      uint64
	version, state, callers, leases, since, why string
}

// rowsOf returns a model's versions by number, the refused ones among them, and
// then its quarantined drops. A refused version may still be unloading.
func rowsOf(m console.Model) []modelRow {
	var rows []modelRow
	for _, v := range m.Versions {
		rows = append(rows, modelRow{
			v.Number, strconv.FormatUint(v.Number, 10), oneLine(v.State), fmt.Sprintf("%.4g %%", v.Weight),
			strconv.FormatInt(v.Leases, 10), v.Since.UTC().Format(time.RFC3339), v.Why(),
		})
	}
	for _, r := range m.Refused {
		since := r.At.UTC().Format(time.RFC3339)
		i := slices.IndexFunc(rows, func(v modelRow) bool { return v.number == r.Number })
		if i < 0 {
			rows = append(rows, modelRow{r.Number, strconv.FormatUint(r.Number, 10), "refused", "-", "-", since, r.Reason})
			continue
		}
		rows[i].state, rows[i].since, rows[i].why = "refused, "+rows[i].state, since, r.Reason
	}
	slices.SortFunc(rows, func(a, b modelRow) int { return cmp.Compare(a.number, b.number) })
	for _, q := range m.Quarantined {
		rows = append(rows, modelRow{version: "-", state: "quarantined", callers: "-", leases: "-", since: "-", why: q.Drop + ": " + q.Reason})
	}
	return rows
}

// oneLine is text from elsewhere that cannot break a table or move a terminal's
// cursor.
func oneLine(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// adminAddr is where a running sidecar's console listens.
type adminAddr string

func (a *adminAddr) flag(c *cobra.Command) {
	c.Flags().StringVar((*string)(a), "admin", console.DefaultAddr, "the sidecar's admin address")
}

// errUnanswered is a request of which nobody knows whether it was acted on.
var errUnanswered = errors.New("no answer")

// maxPage bounds what is read of the admin port's answer, in bytes.
const maxPage = 64 << 20

// ask sends one request to the admin port, as from its own page, and returns the
// answer whole. An error after the request was begun wraps errUnanswered.
func (a adminAddr) ask(ctx context.Context, method, path string) (status int, body []byte, err error) {
	return a.askFor(ctx, method, path, usualWait)
}

// usualWait is how long an admin port is waited for.
const usualWait = 30 * time.Second

// askFor is ask that waits for the answer at most for that long; 0: as long as ctx.
func (a adminAddr) askFor(ctx context.Context, method, path string, most time.Duration) (status int, body []byte, err error) {
	if host, port, err := net.SplitHostPort(string(a)); err != nil || host == "" || port == "" {
		return 0, nil, usage(fmt.Errorf("--admin %q: want host:port, like %s", string(a), console.DefaultAddr))
	}
	origin := "http://" + string(a)
	req, err := http.NewRequestWithContext(ctx, method, origin+path, http.NoBody)
	if err != nil {
		return 0, nil, usage(fmt.Errorf("--admin %q: %w", string(a), err))
	}
	req.Header.Set("Origin", origin)
	tr := &http.Transport{DisableKeepAlives: true} // no proxy of the environment's: the address is a neighbor's
	client := &http.Client{Transport: tr, Timeout: most}
	resp, err := client.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return 0, nil, fmt.Errorf("%w; is a sidecar running with --admin %s?", err, a)
		}
		return 0, nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %s%s: %w", errUnanswered, origin, path, err)
	}
	return resp.StatusCode, body, nil
}

// refused is the error that the admin port answered with.
func (a adminAddr) refused(status int, body []byte) error {
	line, _, _ := strings.Cut(string(body), "\n")
	line = strings.TrimPrefix(line, "console: ")
	if status == http.StatusMethodNotAllowed || status == http.StatusNotFound && strings.HasPrefix(line, "no page ") {
		return fmt.Errorf("%s: the sidecar there has no models: start it with --models DIR", a)
	}
	return fmt.Errorf("%s: %s (status %d)", a, oneLine(line), status)
}
