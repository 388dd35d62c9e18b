package patch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Why a child came to no result. Errors of Apply wrap them.
var (
	ErrMemory   = errors.New("over its memory limit")
	ErrTime     = errors.New("over its time limit")
	ErrKilled   = errors.New("killed from outside")
	ErrDiskFull = errors.New("disk full")
)

// Child says how children are run.
type Child struct {
	Command []string      // the program, and the arguments that make it call Run
	Memory  int64         // bytes of private memory that a child may take; 0: no limit
	Time    time.Duration // that it may take; 0: no limit
}

// Need is what a job takes.
type Need struct {
	Disk   int64 // bytes for a while: the new version, and a base that has to be put together; the delta comes to it
	Memory int64 // bytes of private memory
	Mapped int64 // bytes of files that are mapped, which the kernel can take away
}

// What a child takes beside what grows with the files: three bzip2 blocks with
// their tables (14 MB), or zstd's tables; buffers; and most of all what the Go
// runtime maps in large pieces and hardly uses. A patch for 1.3 GB was applied with
// 96 MB and not with 80 (decision 24).
const fixedMemory = 96 << 20

// Need returns what applying h to a base of baseSize bytes takes; whole says
// that the base lies in one file.
func (h *Header) Need(baseSize int64, whole bool) Need {
	// The diff keeps a leaf hash a block and a few bits a page, of both sides, and
	// room for as much to grow.
	hashes := (delta.LeafCount(baseSize) + delta.LeafCount(h.TargetSize)) * delta.RootSize
	n := Need{Disk: h.TargetSize, Memory: fixedMemory + 4*hashes}
	if h.Role == delta.RoleZstdPatch {
		n.Mapped = baseSize + h.TargetSize + h.Size
		if !whole {
			n.Disk += baseSize
		}
	}
	return n
}

// Apply runs a child on a job until it ends, ctx does or its time is over. The
// error says why there is no delta. It must be called on a thread that outlives
// the child: the child dies with it, and has its priority.
func (c *Child) Apply(ctx context.Context, j *Job, h *Header, f *Files) (Result, error) {
	var r Result
	input, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	if len(c.Command) == 0 {
		return r, errors.New("patches are applied by a child process, and no command for it is configured")
	}
	if c.Time > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeoutCause(ctx, c.Time, ErrTime)
		defer end()
	}
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...) //nolint:gosec // configured by who runs the program
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none"}
	if c.Memory > 0 {
		cmd.Env = append(cmd.Env, "GOMEMLIMIT="+strconv.FormatInt(c.Memory/4*3, 10)) // below the hard limit: collect rather than die
	}
	cmd.ExtraFiles = f.list()
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = 5 * time.Second // for output that somebody else holds open
	out, errs := &capped{room: 64 << 10}, &capped{room: 8 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return r, err
	}
	began := now()
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		return r, fmt.Errorf("start a child to apply the patch: %w", err)
	}
	// It waits for its job, so nothing of the patch is read before the limits are set.
	confined := c.confine(cmd.Process.Pid, j, h)
	if confined == nil {
		_, err = stdin.Write(input)
	} else {
		_ = cmd.Process.Kill() // waited for below
	}
	err = errors.Join(err, stdin.Close())
	ended := cmd.Wait()
	r.measure(cmd, now().Sub(began))
	if why := context.Cause(ctx); why != nil {
		return r, c.stopped(why, r)
	}
	if confined != nil { // which is why it was killed
		return r, fmt.Errorf("the child that applies the patch: %w", confined)
	}
	if ended != nil {
		return r, c.died(ended, errs.String(), r)
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &r)
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("the child that applies the patch: %w", err)
	case r.DiskFull:
		return r, fmt.Errorf("%s: %w", r.Error, ErrDiskFull)
	case r.Error != "":
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (r *Result) measure(cmd *exec.Cmd, took time.Duration) {
	r.Took = took
	if s := cmd.ProcessState; s != nil {
		r.CPU = s.UserTime() + s.SystemTime()
		if u, ok := s.SysUsage().(*syscall.Rusage); ok {
			r.Peak = u.Maxrss * rssUnit
		}
	}
}

// stopped is the error of a child that was killed because ctx ended.
func (c *Child) stopped(why error, r Result) error {
	if errors.Is(why, ErrTime) {
		return fmt.Errorf("the child that applies the patch was killed after %v (%v of CPU): %w of %v: raise it, or ship a .qd delta", r.Took.Round(time.Millisecond), r.CPU.Round(time.Millisecond), why, c.Time)
	}
	return why
}

// died is the error of a child that ended without a result.
func (c *Child) died(ended error, said string, r Result) error {
	e, ok := errors.AsType[*exec.ExitError](ended)
	if !ok {
		return fmt.Errorf("the child that applies the patch: %w", ended)
	}
	if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		return fmt.Errorf("the child that applies the patch was %w with SIGKILL after %v, with %d MB resident: by the kernel for want of memory, or by somebody", ErrKilled, r.Took.Round(time.Millisecond), r.Peak>>20)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	// Go's collector does not look whether it was given memory for its queues, and
	// faults (runtime.spanQueue, Go 1.26: one end in ten). A fault outside of the
	// runtime begins with "panic" or "fatal error".
	short := strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate") || strings.HasPrefix(first, "SIGSEGV")
	if c.Memory > 0 && short {
		return fmt.Errorf("the child that applies the patch was %w of %d MB (%s): raise it, or ship a .qd delta", ErrMemory, c.Memory>>20, first)
	}
	return fmt.Errorf("the child that applies the patch ended with %w: %s", ended, first)
}

// capped keeps the first bytes of what is written to it and takes the rest.
type capped struct {
	bytes.Buffer

	room int
}

// Write never fails: a child that talks too much is not to stop for it.
func (c *capped) Write(p []byte) (int, error) {
	n := len(p)
	p = p[:min(n, c.room)]
	c.room -= len(p)
	_, _ = c.Buffer.Write(p) // a buffer takes all
	return n, nil
}
