package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// ChildArg is the first argument of a process that drives; the second is the
// plan.
const ChildArg = "drive"

const readyLine = "ready"

// Child is the driving process: it connects, warms up, says so, waits for a
// line, drives, and prints the result.
func Child(plan string, in io.Reader, out io.Writer) error {
	var p Plan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		return fmt.Errorf("driver: the plan: %w", err)
	}
	runtime.LockOSThread() // one thread that stays warm
	r, err := newRun(p)
	if err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, readyLine); err != nil {
		return err
	}
	go1 := bufio.NewReader(in)
	if _, err := go1.ReadString('\n'); err != nil {
		return fmt.Errorf("driver: nobody says go: %w", err)
	}
	res, err := r.phase(p.Duration)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(res); err != nil {
		return err
	}
	if p.Hold {
		_, _ = go1.ReadString('\n') // or its end: let go
		return nil
	}
	if p.Message > 0 {
		r.finish()
		if err := r.flush(); err != nil {
			return err
		}
		return r.until("end the streams", func() bool { return r.inflight == 0 })
	}
	return nil
}

// warm brings everything into the state that is measured.
func (r *run) warm() error {
	if r.plan.Message > 0 {
		r.streams()
	} else if err := r.greet(); err != nil {
		return err
	}
	if r.plan.Warm <= 0 {
		return r.flush()
	}
	res, err := r.phase(r.plan.Warm)
	// A proxy that opens hundreds of connections at once may be refused some.
	for again := 2; again > 0 && err == nil && res.Failed > 0; again-- {
		res, err = r.phase(r.plan.Warm)
	}
	if err == nil && res.Failed > 0 {
		err = fmt.Errorf("driver: %d requests of the warm-up %w: %s", res.Failed, errFailed, res.Failure)
	}
	return err
}

// Process is a started driver.
type Process struct {
	*proc.Proc

	plan Plan
	in   *os.File
}

// Start starts a driver, bound to cpu unless that is -1, and waits until it has
// connected and warmed up. self is a binary whose main calls Child.
func Start(ctx context.Context, self string, cpu int, p Plan) (*Process, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	defer read.Close()
	opts := []proc.Option{func(c *exec.Cmd) { c.Stdin = read }, proc.Env("GOGC=400", "GOMAXPROCS=1")}
	if cpu >= 0 {
		opts = append(opts, proc.Pin(cpu))
	}
	started, err := proc.Start(self, []string{ChildArg, string(raw)}, opts...)
	if err != nil {
		return nil, fmt.Errorf("driver: %w; and %w", err, write.Close())
	}
	d := &Process{Proc: started, plan: p, in: write}
	if err := d.await(ctx, "connect and warm up", readyLine+"\n"); err != nil {
		d.Stop()
		return nil, err
	}
	return d, nil
}

// Begin makes it drive, without waiting for the result.
func (d *Process) Begin() error {
	if _, err := d.in.WriteString("\n"); err != nil {
		return fmt.Errorf("driver: %w\n%s", err, d.Output())
	}
	return nil
}

// Go makes it drive and returns the result. The process then ends, or holds its
// connections if the plan says so. A request that failed is an error.
func (d *Process) Go(ctx context.Context) (Result, error) {
	if err := d.Begin(); err != nil {
		return Result{}, err
	}
	if err := d.await(ctx, "finish", "}\n"); err != nil {
		return Result{}, err
	}
	_, line, _ := strings.Cut(d.Output(), readyLine+"\n")
	var res Result
	if err := json.Unmarshal([]byte(line), &res); err != nil {
		return Result{}, fmt.Errorf("driver: its result: %w\n%s", err, d.Output())
	}
	if res.Failed > 0 {
		return res, fmt.Errorf("driver: %d of %d against %s %w, the first one: %s", res.Failed, res.Failed+res.Done, d.plan.Addr, errFailed, res.Failure)
	}
	return res, nil
}

// await waits until the output has text.
func (d *Process) await(ctx context.Context, what, text string) error {
	ctx, cancel := context.WithTimeout(ctx, d.plan.Warm+d.plan.Duration+2*answerWithin+time.Duration(d.plan.Connections)*10*time.Millisecond)
	defer cancel()
	seen := func(context.Context) bool { return strings.Contains(d.Output(), text) }
	err := d.Await(ctx, what, seen)
	if err == nil || seen(ctx) {
		return nil
	}
	select {
	case <-d.Done(): // its last line says why
		lines := strings.Split(strings.TrimSpace(d.Output()), "\n")
		return fmt.Errorf("driver: could not %s: %s", what, lines[len(lines)-1])
	default:
		return fmt.Errorf("driver: %w", err)
	}
}

// Stop ends the process and its connections.
func (d *Process) Stop() {
	d.in.Close()
	d.Proc.Stop()
}
