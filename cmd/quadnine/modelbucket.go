package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/objects"
	"github.com/quadnine/quadnine/telemetry"
)

// bucketConfig is what `run` was told about a bucket of models.
type bucketConfig struct {
	url   string        // empty: there is none
	every time.Duration // between two looks; 0: the default
	tier  time.Duration // age from which unneeded versions go there; 0: never
}

func (b *bucketConfig) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.url, "model-bucket", "", "bucket that model versions are fetched from: s3://BUCKET/PREFIX?endpoint=URL&region=NAME")
	f.DurationVar(&b.every, "model-bucket-poll", objects.DefaultEvery, "time between two looks at --model-bucket")
	f.DurationVar(&b.tier, "model-tier-after", objects.DefaultTier, "age from which versions that nothing needs here move to --model-bucket; 0s: never, they are removed at once")
}

// check refuses what makes no sense.
func (b *bucketConfig) check() error {
	if b.every < 100*time.Millisecond || b.tier < 0 {
		return usage(fmt.Errorf("--model-bucket-poll %v, --model-tier-after %v: want 100ms or more, and no negative time", b.every, b.tier))
	}
	return nil
}

// openBucket makes cfg's bucket a source of drops; store is the loader's directory.
func (a *models) openBucket(cfg bucketConfig, store string) error {
	failed := map[string]telemetry.CounterID{"list": telemetry.ModelBucketListFailed, "get": telemetry.ModelBucketGetFailed, "put": telemetry.ModelBucketPutFailed}
	b, err := objects.Open(cfg.url, objects.Options{
		Moved: func(received, sent int64) {
			a.registry.Count(telemetry.ModelBucketReceived, uint64(received))
			a.registry.Count(telemetry.ModelBucketSent, uint64(sent))
		},
		Failed: func(operation string) { a.registry.Count(failed[operation], 1) },
	})
	if err != nil {
		return usage(fmt.Errorf("--model-bucket: %w", err))
	}
	a.bucket = objects.NewSource(b, objects.SourceOptions{Dir: filepath.Join(store, "fetched"), Every: cfg.every, Tier: cfg.tier, Log: a.log})
	a.registry.Gauge(telemetry.ModelBucketListed, func() float64 {
		_, at := a.bucket.Held()
		if at.IsZero() {
			return 0
		}
		return float64(at.UnixMilli()) / 1000
	})
	a.registry.Gauge(telemetry.ModelBucketProblems, func() float64 { return float64(len(a.bucket.Problems())) })
	return nil
}

// inBucket returns the versions that the bucket holds, by model, and what is wrong
// with it.
func (a *models) inBucket() (held map[string][]console.Version, problems map[string][]console.Quarantine) {
	held, problems = make(map[string][]console.Version), make(map[string][]console.Quarantine)
	if a.bucket == nil {
		return held, problems
	}
	for _, p := range a.bucket.Problems() {
		problems[p.Model] = append(problems[p.Model], console.Quarantine{Drop: p.About, Reason: p.Reason})
	}
	all, _ := a.bucket.Held()
	for _, h := range all {
		v := console.Version{Number: h.Version, Root: h.Root, State: "in bucket", Since: h.Since, Expect: h.Drop}
		switch {
		case h.Fetching:
			v.State = "fetching"
		case h.Version <= a.loader.Past(h.Model):
			v.State, v.Expect = "tiered", fmt.Sprintf("%s: quadnine model activate %s %d brings it back", h.Drop, h.Model, h.Version)
		}
		held[h.Model] = append(held[h.Model], v)
	}
	return held, problems
}

// without leaves out the versions that are listed already.
func without(held []console.Version, m *console.Model) []console.Version {
	return slices.DeleteFunc(held, func(h console.Version) bool {
		return slices.ContainsFunc(m.Versions, func(v console.Version) bool { return v.Number == h.Number }) ||
			slices.ContainsFunc(m.Refused, func(r console.Refused) bool { return r.Number == h.Number })
	})
}

// activate makes a version the active one by hand, for console.Views: one that is
// here, or one that the bucket holds.
func (a *models) activate(ctx context.Context, model string, version uint64) error {
	if info, ok := a.loader.Current(model); ok && info.Number == version {
		return fmt.Errorf("%w: it is active", console.ErrState)
	}
	err := a.loader.Reactivate(ctx, model, version)
	absent := errors.Is(err, loader.ErrNoModel) || errors.Is(err, loader.ErrNoVersion)
	if absent && a.bucket != nil {
		err = a.bucket.Activate(ctx, model, version)
		absent = errors.Is(err, objects.ErrNotHeld)
	}
	switch {
	case absent:
		return fmt.Errorf("%w: %w", console.ErrNoVersion, err)
	case errors.Is(err, loader.ErrRefused), errors.Is(err, loader.ErrUndecided), errors.Is(err, loader.ErrPresent), errors.Is(err, loader.ErrExperiment), errors.Is(err, objects.ErrBusy):
		return fmt.Errorf("%w: %w", console.ErrState, err)
	}
	return err
}

func newModelActivate() *cobra.Command {
	var admin adminAddr
	c := &cobra.Command{
		Use:   "activate MODEL VERSION",
		Short: "Make a version of a running sidecar's model the active one, an older one too",
		Long: `Make a version the active one, without a trial: the canary, the standby, one that the
store still has, or one that is in the bucket (--model-bucket), which is fetched
first. The version that it replaces becomes the standby. After going back, no version
up to the one that was left comes by itself: the next needs a higher number. A
version that was rolled back stays refused.`,
		Example: `  quadnine model activate score 3`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := versionArg(args[1])
			if err != nil {
				return err
			}
			path := "/models/" + url.PathEscape(args[0]) + "/versions/" + strconv.FormatUint(version, 10) + "/activate"
			return admin.actFor(cmd, path, "active", 0) // a version may have to be fetched first
		},
	}
	admin.flag(c)
	return c
}
