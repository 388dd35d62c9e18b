package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
	"github.com/quadnine/quadnine/loader/patch"
)

// Defaults of Options.
const (
	DefaultReclaim    = 300 * time.Second // loader.md, design 5: leases held longer are revoked
	DefaultWarmFor    = time.Minute       // 58 ms for each of as many requests as a manifest may have
	DefaultJudgeEvery = 100 * time.Millisecond
	DefaultCopyLimit  = 256 << 20       // bytes
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
	Keys      []*delta.PublicKey // when there are any, every drop must be signed by one of these or of Trust
	Trust     []*modelsign.Key   // likewise, for the bundle of OpenSSF Model Signing in a drop
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
	TakenBack func(bad, to *Info, reason string, judged bool)
	Sharer    Sharer // shows versions to other processes; nil: none do
	// Warm is run on what Prepare made of a new version, before it answers anybody:
	// it asks what the manifest's warmup says and returns how many answered as they
	// should. An error quarantines the drop. It must end when ctx does: after WarmFor,
	// or when the loader is closed.
	Warm    func(ctx context.Context, v View, prepared any) (requests int64, err error)
	WarmFor time.Duration // for all warm-up requests of a version; default DefaultWarmFor
	// Comparable says why a version cannot be computed beside the active one, given
	// what Prepare made of both; nil when it can. It must not block.
	Comparable func(shadow, active any) error
	// Compared says whether a version in shadow was compared as often as its manifest
	// says, and nothing speaks against it. It must not block.
	Compared func(shadow *Info) bool
	// Changed is told what a model's versions are used for, whenever that may have
	// changed. It must not block, nor call the loader.
	Changed    func(Study)
	Reclaim    time.Duration // from entering Unloading until leases are revoked
	JudgeEvery time.Duration
	// Retain keeps versions that were active in the store when nothing needs them
	// any more, until Forget, or until the disk is full. Idle lists them.
	Retain   bool
	Patch    patch.Child   // applies bsdiff4 and zstd patches; without a Command drops that have nothing else are quarantined
	Patched  func(Patched) // told of each patch that was applied or not, on a worker; nil for nobody
	Hashers  int           // goroutines that hash, each on a thread of the lowest priority; default 1
	Mappings int64         // kernel mappings that all versions may take; default half of what the kernel allows

	// CopyLimit bounds the private memory of one version, in bytes: its rows and its
	// short extents, which are copied instead of mapped. A drop that would take more
	// is refused. Default DefaultCopyLimit; negative: no limit.
	CopyLimit int64

	// Lock keeps every version's pages in memory from its warm-up until it is
	// unmapped. A drop that would take more than the process may lock, or than the
	// control group has room for, is refused.
	Lock bool

	// Quota bounds the bytes of files that the store may hold, Quotas those of single
	// models; 0 or none: no bound. A drop that would exceed one is refused.
	Quota  int64
	Quotas map[string]int64

	volume *volume                                   // tests put something between the store and its disk
	group  func() (limit, fixed int64, limited bool) // memory of the control group; tests make it smaller
	chains chains                                    // when a chain is compacted; tests make it shorter
	prompt bool                                      // workers keep the usual priority; tests that open hundreds of stores
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
	if o.Reclaim < 0 || o.JudgeEvery < 0 || o.WarmFor < 0 {
		return fmt.Errorf("loader: reclaim %v, judge every %v, warm for %v: want no negative times", o.Reclaim, o.JudgeEvery, o.WarmFor)
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
	o.fillStudies()
	if o.TakenBack == nil {
		o.TakenBack = func(_, _ *Info, _ string, _ bool) {}
	}
	if o.Patched == nil {
		o.Patched = func(Patched) {}
	}
	if o.Reclaim == 0 {
		o.Reclaim = DefaultReclaim
	}
	if o.JudgeEvery == 0 {
		o.JudgeEvery = DefaultJudgeEvery
	}
	o.Hashers = min(max(o.Hashers, 1), runtime.NumCPU())
	if o.CopyLimit == 0 {
		o.CopyLimit = DefaultCopyLimit
	}
	if o.Quota < 0 {
		return fmt.Errorf("loader: quota %d: want no negative bytes", o.Quota)
	}
	for name, n := range o.Quotas {
		if n <= 0 {
			return fmt.Errorf("loader: quota of model %s: %d: want at least one byte", name, n)
		}
	}
	if o.volume == nil {
		o.volume = new(osVolume())
	}
	if o.group == nil {
		o.group = groupMemory
	}
	if o.chains == (chains{}) {
		o.chains = usualChains
	}
	if o.Mappings == 0 {
		o.Mappings = mappingLimit() / 2
	}
	return nil
}
