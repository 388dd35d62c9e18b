package loader

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Defaults of Options.
const (
	DefaultReclaim    = 300 * time.Second // loader.md, design 5: leases held longer are revoked
	DefaultJudgeEvery = 100 * time.Millisecond
	retryFirst        = 5 * time.Second // after a failure that may pass, doubled up to retryMost
	retryMost         = 5 * time.Minute
	saveRetry         = time.Second
)

// Options say how a Loader works.
type Options struct {
	Store     string             // private directory; one process at a time
	Source    Source             // where drops come from; nil: none come
	Judge     Judge              // nil: a canary is promoted after its promote_after
	Mode      Mode               // default Copy
	Keys      []*delta.PublicKey // when there are any, every drop must be signed by one
	Schemas   []int              // schema versions this program can read; default 1
	LookupEnv func(string) (string, bool)
	Prepare   func(View) (any, error) // run on a version before it answers; its result is Lease.Prepared; an error quarantines the drop
	// Refuse is told what Prepare made of a version that is being taken back,
	// right before no lease on it is given any more. It is called under a lock:
	// it must not block, nor call the loader.
	Refuse func(prepared any)
	// TakenBack is told of each version that was taken back by the Judge's verdict
	// (judged) or by Rollback, once, after the switch and under no lock. Whoever
	// calls TakeBack knows by itself.
	TakenBack  func(bad, to *Info, reason string, judged bool)
	Reclaim    time.Duration // from entering Unloading until leases are revoked
	JudgeEvery time.Duration
	Hashers    int   // goroutines that hash; default 1
	Mappings   int64 // kernel mappings that all versions may take; default half of what the kernel allows
}

func (o *Options) fill() error {
	if o.Store == "" {
		return errors.New("loader: no store directory is given")
	}
	switch o.Mode {
	case "":
		o.Mode = Copy
	case Copy, InPlace:
	default:
		return fmt.Errorf("loader: ingest mode %q: want %q or %q", o.Mode, Copy, InPlace)
	}
	if o.Reclaim < 0 || o.JudgeEvery < 0 {
		return fmt.Errorf("loader: reclaim %v, judge every %v: want no negative times", o.Reclaim, o.JudgeEvery)
	}
	if o.Schemas == nil {
		o.Schemas = []int{1}
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.Prepare == nil {
		o.Prepare = func(View) (any, error) { return nil, nil }
	}
	if o.Refuse == nil {
		o.Refuse = func(any) {}
	}
	if o.TakenBack == nil {
		o.TakenBack = func(_, _ *Info, _ string, _ bool) {}
	}
	if o.Reclaim == 0 {
		o.Reclaim = DefaultReclaim
	}
	if o.JudgeEvery == 0 {
		o.JudgeEvery = DefaultJudgeEvery
	}
	o.Hashers = min(max(o.Hashers, 1), runtime.NumCPU())
	if o.Mappings == 0 {
		o.Mappings = mappingLimit() / 2
	}
	return nil
}
