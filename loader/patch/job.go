package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
)

// Job is what a child is told on its standard input, as JSON.
type Job struct {
	Role       delta.Role `json:"role"`
	PatchSize  int64      `json:"patch_size"`
	Base       []Segment  `json:"base"` // the base's bytes, in the files after the first ones
	BaseRoot   delta.Root `json:"base_root"`
	TargetRoot delta.Root `json:"target_root"`
}

// Files are what a child works on. All are open, and it opens no others.
type Files struct {
	Patch  *os.File   // read
	Target *os.File   // empty; the new version is written to it
	Delta  *os.File   // empty; the .qd from base to new version is written to it
	Flat   *os.File   // empty; a base in pieces is put together there when the format needs it whole
	Base   []*os.File // read; see Segment
}

// list returns the files in the order of their descriptors in the child, which
// begin after standard error.
func (f *Files) list() []*os.File {
	return append([]*os.File{f.Patch, f.Target, f.Delta, f.Flat}, f.Base...)
}

const (
	firstFile = 3 // descriptor
	fixed     = 4 // files before the base's
	maxJob    = 64 << 20
)

// Result is what a child says on its standard output, as JSON.
type Result struct {
	Error    string        `json:"error,omitempty"` // why there is no delta
	DiskFull bool          `json:"disk_full,omitempty"`
	Target   int64         `json:"target"` // bytes of the new version
	Delta    int64         `json:"delta"`  // bytes of the .qd
	Made     time.Duration `json:"made"`   // took the new version, ns
	Diffed   time.Duration `json:"diffed"` // took the delta, ns

	Took time.Duration `json:"-"` // the child, from its start to its end
	CPU  time.Duration `json:"-"` // of it, user and system
	Peak int64         `json:"-"` // bytes that it had resident at most, pages of files included
}

// Run is the child: it reads a Job from in, does it, and writes its Result to
// out. What is wrong with the patch is in the result; Run's own error says that
// nobody could be told.
func Run(ctx context.Context, in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(io.LimitReader(in, maxJob))
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	var j Job
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	open := func(i int) *os.File { return os.NewFile(uintptr(firstFile+i), fmt.Sprint("descriptor ", firstFile+i)) }
	f := Files{Patch: open(0), Target: open(1), Delta: open(2), Flat: open(3)}
	for _, s := range j.Base {
		for s.File >= len(f.Base) && len(f.Base) < maxFiles {
			f.Base = append(f.Base, open(fixed+len(f.Base)))
		}
	}
	var r Result
	if err := j.do(ctx, &f, &r); err != nil {
		r.Error = err.Error()
		r.DiskFull = errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	}
	return json.NewEncoder(out).Encode(&r)
}

const maxFiles = 1 << 16 // of a base; a chain of deltas is far shorter

// do makes the new version and the delta.
func (j *Job) do(ctx context.Context, f *Files, r *Result) error {
	readers := make([]io.ReaderAt, len(f.Base))
	for i, b := range f.Base {
		readers[i] = b
	}
	old, err := newBase(j.Base, readers)
	if err != nil {
		return err
	}
	h, err := ParseHeader(j.Role, f.Patch, j.PatchSize)
	if err != nil {
		return err
	}
	began := now()
	if err := j.make(ctx, f, old, h); err != nil {
		return err
	}
	r.Target = h.TargetSize
	r.Made = now().Sub(began)
	began = began.Add(r.Made)
	target := delta.Section(f.Target, h.TargetSize)
	plan, err := delta.Diff(ctx, old, target, delta.Options{Workers: 1})
	if err != nil {
		return err
	}
	made, err := plan.Write(ctx, f.Delta, delta.Options{Workers: 1})
	if err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	if made.BaseRoot != j.BaseRoot {
		return fmt.Errorf("the base has root %s here, the manifest says %s", made.BaseRoot.Short(), j.BaseRoot.Short())
	}
	if made.TargetRoot != j.TargetRoot {
		return fmt.Errorf("makes a version with root %s, the manifest says %s: it was damaged, or made from another base", made.TargetRoot.Short(), j.TargetRoot.Short())
	}
	r.Diffed = now().Sub(began)
	r.Delta, err = f.Delta.Seek(0, io.SeekCurrent)
	return err
}

// make writes the new version.
func (j *Job) make(ctx context.Context, f *Files, old *base, h Header) error {
	if h.Role == delta.RoleBSDiff4 {
		return bsdiff(ctx, f.Target, old, f.Patch, h)
	}
	if i := old.plain(); i >= 0 {
		return unzstd(f.Target, f.Base[i], f.Patch, old.size, h)
	}
	if _, err := io.Copy(f.Flat, io.NewSectionReader(old, 0, old.size)); err != nil {
		return fmt.Errorf("put the base together: %w", err)
	}
	return unzstd(f.Target, f.Flat, f.Patch, old.size, h)
}

// Make writes the version that a patch makes of base to target, in this process:
// for tools, which have the machine to themselves. target is empty, base has
// baseSize bytes.
func Make(ctx context.Context, target, base, p *os.File, baseSize int64, h Header) error {
	old, err := newBase([]Segment{{N: baseSize}}, []io.ReaderAt{base})
	if err != nil {
		return err
	}
	j := Job{Role: h.Role, PatchSize: h.Size}
	return j.make(ctx, &Files{Patch: p, Target: target, Base: []*os.File{base}}, old, h)
}
