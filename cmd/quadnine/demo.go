package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/snapshot"
)

// What the demo holds itself to. Counts are exact; times are wide, because the
// machine is anybody's.
const (
	demoOpenWithin  = 100 * time.Millisecond // first rejected query after the breaker opened
	demoStaleWithin = 50 * time.Millisecond  // median time to a stale reply
	demoRequests    = 2000                   // a second
	demoOpenFor     = "2s"                   // the breaker's waiting time, shorter than the default 30 s
	demoApps        = 3
	demoPatience    = 20 * time.Second // with a machine that stands still now and then
	demoFaulty      = "t-7"
)

// newDemo shows the product in one process over real sockets.
func newDemo() *cobra.Command {
	var stay bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch a tenant's upstream fail and come back, over real sockets in one process",
		Long: `Start three statistics services, a sidecar in front of them and a client that
checks the number in every reply; ship a model version, make the upstream fail
for one tenant, ship a bad version, then kill all upstreams, and print what
happened. Every figure is measured in this run.

Exit 0 when every goal is met, 3 when one is not, 130 when interrupted.`,
		Example: "  quadnine demo\n  quadnine demo --stay",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := newDemoRun(cmd.OutOrStdout())
			err := d.run(cmd.Context(), stay)
			if cmd.Context().Err() != nil && !d.finished {
				return &exitError{exitInterrupted, errors.New("demo: interrupted; everything it started has ended")}
			}
			return err
		},
	}
	c.Flags().BoolVar(&stay, "stay", false, "keep everything running afterwards, until Ctrl-C")
	return c
}

// demo is one run.
type demo struct {
	out      io.Writer
	start    time.Time
	finished bool

	countsOnly bool // hold no times: tests run on busy machines

	dir         string // everything on disk
	apps        []*demoApp
	side        *sidecar
	load        *demoLoad
	transitions chan proxy.Transition

	met, goals int
	short      []string
}

func newDemoRun(out io.Writer) *demo {
	return &demo{out: out, start: time.Now(), transitions: make(chan proxy.Transition, 4096)}
}

func (d *demo) say(topic, format string, args ...any) {
	fmt.Fprintf(d.out, "%04.1fs %-10s %s\n", time.Since(d.start).Seconds(), topic, fmt.Sprintf(format, args...))
}

// goal notes whether one of the demo's promises was kept, and returns its mark.
func (d *demo) goal(ok bool, what string) string {
	d.goals++
	if ok {
		d.met++
		return "✓"
	}
	d.short = append(d.short, what)
	return "✗"
}

func (d *demo) run(ctx context.Context, stay bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { err = errors.Join(err, d.end()) }()
	if err := d.begin(ctx); err != nil {
		return err
	}
	for _, act := range []func(context.Context) error{d.traffic, d.model, d.fault, d.recovery, d.rollback, d.xds, d.outage} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	d.load.stop()
	total := d.load.total()
	mark := d.goal(total.lost == 0 && total.wrong == 0, fmt.Sprintf("%d lost, %d wrong: %v", total.lost, total.wrong, d.load.firstLoss()))
	d.say("summary", "%s requests · %d lost · %d wrong numbers %s · %d/%d goals %s",
		thousands(total.sent), total.lost, total.wrong, mark, d.met, d.goals, map[bool]string{true: "✓", false: "✗"}[d.met == d.goals])
	d.finished = true
	if len(d.short) > 0 {
		for _, s := range d.short {
			fmt.Fprintln(d.out, "       fell short:", s)
		}
		return &exitError{exitShort, fmt.Errorf("demo: %d of %d goals fell short", len(d.short), d.goals)}
	}
	if stay {
		d.say("stay", "sidecar http://%s · admin http://%s · Ctrl-C ends it", d.side.Addr(), d.side.AdminAddr())
		<-ctx.Done()
	}
	return nil
}

// begin starts the upstreams, the sidecar and the client.
func (d *demo) begin(ctx context.Context) error {
	src := snapshot.Source{Role: "inbound", Degrade: []string{"/api/v2/metrics/query"}, Timeout: 15 * time.Second, Idle: time.Minute}
	var err error
	if d.dir, err = os.MkdirTemp("", "quadnine-demo-"); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := os.Mkdir(filepath.Join(d.dir, "drops"), 0o750); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for range demoApps {
		a, err := startDemoApp(ctx, "127.0.0.1:0")
		if err != nil {
			return err
		}
		d.apps = append(d.apps, a)
		src.Upstreams = append(src.Upstreams, "http://"+a.addr)
	}
	if src.File, err = snapshot.Parse("demo", []byte("tenantBreaker:\n  openFor: "+demoOpenFor+"\n")); err != nil {
		return err
	}
	snap, err := snapshot.Compile(src)
	if err != nil {
		return err
	}
	d.side, err = startSidecar(ctx, sidecarConfig{
		snap: snap, models: modelsConfig{dir: filepath.Join(d.dir, "drops"), store: filepath.Join(d.dir, "store")}, listen: "127.0.0.1:0", admin: "127.0.0.1:0", level: slog.LevelError + 1, logTo: io.Discard,
		onTransition: func(t proxy.Transition) {
			select {
			case d.transitions <- t:
			default: // more than the demo asks about
			}
		},
	})
	if err != nil {
		return err
	}
	if _, err := d.ship(ctx, 0); err != nil {
		return err
	}
	if err := d.until(ctx, "version 1 active", d.active(1)); err != nil {
		return err
	}
	d.load, err = newDemoLoad(d.side.Addr(), d.apps[0].app)
	if err != nil {
		return err
	}
	d.say("ready", "sidecar on %s · %d statistics services · %d tenants × %d metrics · a %d MB model answers score · every reply's number is checked",
		d.side.Addr(), demoApps, len(demoTenants), len(demoMetrics), demoModelBytes>>20)
	return nil
}

// traffic shows the sidecar at work.
func (d *demo) traffic(ctx context.Context) error {
	if err := d.load.warm(ctx); err != nil {
		return fmt.Errorf("demo: a first query failed: %w", err)
	}
	d.load.run(ctx)
	before := d.load.total()
	begin := time.Now()
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	now := d.load.total()
	sent := now.sent - before.sent
	d.say("traffic", "%s req/s over h2c · p50 %s p99 %s · %d lost",
		thousands(int64(float64(sent)/time.Since(begin).Seconds())), ms(d.load.quantile(0.5)), ms(d.load.quantile(0.99)), now.lost)
	return nil
}

// fault fails the upstream for one tenant.
func (d *demo) fault(ctx context.Context) error {
	d.load.mark()
	drainTransitions(d.transitions)
	for _, a := range d.apps {
		if err := a.app.SetFault(demoFaulty, statsapp.Fault{Kind: statsapp.Error, Status: 500}); err != nil {
			return err
		}
	}
	opened, err := d.await(ctx, demoFaulty, "open", demoPatience)
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	seen := d.load.since()
	rejected := seen.firstRejected.Sub(opened)
	okTimes := !seen.firstRejected.IsZero() && (d.countsOnly || rejected <= demoOpenWithin && seen.staleP50 <= demoStaleWithin)
	mark := d.goal(okTimes, fmt.Sprintf("first rejected query %v after the breaker opened (limit %v), stale replies in %v (limit %v)", rejected, demoOpenWithin, seen.staleP50, demoStaleWithin))
	d.say("fault", "tenant %s: upstream answers 500 → breaker open after 4 failures → first stale reply for it %s later · %s stale replies, p50 %s, oldest %d s %s",
		demoFaulty, ms(max(rejected, 0)), thousands(seen.stale), ms(seen.staleP50), seen.oldest, mark)
	sample, err := d.load.sample(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "       %-10s GET %s\n       %-10s x-quadnine-degraded: %s\n", "", sample.path, "", sample.degraded)

	all := seen.othersOK == seen.othersSent && seen.othersSent > 0
	mark = d.goal(all, fmt.Sprintf("%d of %d requests of other tenants succeeded", seen.othersOK, seen.othersSent))
	d.say("isolation", "other tenants: %s of %s fresh and right (%.3f %%) · p99 %s %s",
		thousands(seen.othersOK), thousands(seen.othersSent), percent(seen.othersOK, seen.othersSent), ms(seen.othersP99), mark)
	return nil
}

// recovery ends the fault.
func (d *demo) recovery(ctx context.Context) error {
	drainTransitions(d.transitions)
	ended := time.Now()
	for _, a := range d.apps {
		if err := a.app.SetFault(demoFaulty, statsapp.Fault{Kind: statsapp.None}); err != nil {
			return err
		}
	}
	half, herr := d.await(ctx, demoFaulty, "half-open", demoPatience)
	closed, cerr := d.await(ctx, demoFaulty, "closed", demoPatience)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	stale, err := d.untilFresh(ctx) // the tenant's other metrics have breakers and probes of their own
	if err != nil {
		return err
	}
	mark := d.goal(herr == nil && cerr == nil && stale == 0, fmt.Sprintf("half-open: %v, closed: %v, %d replies still stale", herr, cerr, stale))
	d.say("recovery", "upstream well again → half-open after %s, one probe → closed %s later · fresh again %s",
		ms(half.Sub(ended)), ms(closed.Sub(half)), mark)
	return nil
}

// outage kills every upstream and brings them back.
func (d *demo) outage(ctx context.Context) error {
	d.load.mark()
	for _, a := range d.apps {
		a.kill()
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	seen := d.load.since()
	for i, a := range d.apps {
		again, err := startDemoApp(ctx, a.addr)
		if err != nil {
			return err
		}
		d.apps[i] = again
	}
	back := time.Now()
	stale, err := d.untilFresh(ctx)
	if err != nil {
		return err
	}
	mark := d.goal(seen.bad == 0 && stale == 0, fmt.Sprintf("%d of %d queries without a whole right reply, %d still stale after the return", seen.bad, seen.sent, stale))
	d.say("outage", "all upstreams killed for 1.5 s: %s of %s warm queries answered, stale and marked · back → fresh within %s %s",
		thousands(seen.sent-seen.bad), thousands(seen.sent), ms(time.Since(back)), mark)
	return nil
}

// untilFresh waits until a fifth of a second has passed with fresh replies only,
// and returns how many were stale in the last one it looked at.
func (d *demo) untilFresh(ctx context.Context) (stale int64, err error) {
	for begin := time.Now(); ; {
		d.load.mark()
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
		if s := d.load.since(); s.stale == 0 && s.othersOK > 0 || time.Since(begin) > demoPatience {
			return s.stale, nil
		}
	}
}

// await returns when tenant's breaker entered state.
func (d *demo) await(ctx context.Context, tenant, state string, within time.Duration) (time.Time, error) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		select {
		case t := <-d.transitions:
			if t.Key.Tenant == tenant && t.State == state {
				return t.At, nil
			}
		case <-timeout.C:
			return time.Time{}, fmt.Errorf("demo: no breaker of %s became %s within %v", tenant, state, within)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// end stops everything in the order in which it depends on one another.
func (d *demo) end() error {
	var errs []error
	if d.load != nil {
		d.load.stop()
	}
	if d.side != nil {
		errs = append(errs, d.side.stop(5*time.Second))
	}
	for _, a := range d.apps {
		a.kill()
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

func drainTransitions(c chan proxy.Transition) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ms prints a duration with two significant places in milliseconds.
func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case v >= 100:
		return fmt.Sprintf("%.0f ms", v)
	case v >= 10:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return fmt.Sprintf("%.2f ms", v)
	}
}

func percent(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}

// thousands prints n with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
