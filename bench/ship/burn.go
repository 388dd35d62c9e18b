package ship

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/loader"
)

// ChildArg is what a process gets that is the dummy; Child's plan follows it.
const ChildArg = "ship-dummy"

// lowest is the nice value of the dummy, and of the loader's threads.
const lowest = 19

// burnPlan is what the dummy does.
type burnPlan struct {
	Times int
	Pace  time.Duration
	Each  time.Duration // of CPU

	Gentle bool // with the loader's slices
}

// burn has the dummy work on a CPU, in a process of its own.
func burn(ctx context.Context, self string, cpu int, p burnPlan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	dummy, err := proc.Start(self, []string{ChildArg, string(text)}, proc.Pin(cpu), proc.Env("GOMAXPROCS=1"))
	if err != nil {
		return err
	}
	defer dummy.Stop()
	select {
	case <-dummy.Done():
		if out := dummy.Output(); out != "" {
			return fmt.Errorf("the dummy: %s", out)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Child is the dummy: it hashes for a while of its own CPU time at the lowest
// priority, again and again.
func Child(ctx context.Context, plan string) error {
	var p burnPlan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		return fmt.Errorf("ship: %w", err)
	}
	runtime.LockOSThread()
	if p.Gentle {
		loader.Lowest()
	} else if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), lowest); err != nil {
		return fmt.Errorf("ship: the dummy's priority: %w", err)
	}
	block := make([]byte, 64<<10)
	return every(ctx, p.Times, p.Pace, func(int) error {
		began, err := threadTime()
		for at := began; err == nil && at-began < p.Each; at, err = threadTime() {
			sum := sha256.Sum256(block)
			copy(block, sum[:])
		}
		return err
	})
}

// threadTime is the CPU time of this thread.
func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}

// every does something n times, pace apart.
func every(ctx context.Context, n int, pace time.Duration, do func(i int) error) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := range n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}
