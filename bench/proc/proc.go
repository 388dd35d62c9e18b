package proc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// stopGrace is how long a program may take to end after SIGTERM before its
// group is killed; a draining proxy needs the longest of them.
const stopGrace = 5 * time.Second

// Proc is one started program and its children.
type Proc struct {
	Name string // for messages

	cmd  *exec.Cmd
	out  tail
	done chan struct{} // closed once the program has been waited for
	err  error         // result of the wait; read only after done
}

// Option changes how a program is started.
type Option func(*exec.Cmd)

// Env adds "name=value" pairs to the environment the program inherits.
func Env(pairs ...string) Option {
	return func(c *exec.Cmd) { c.Env = append(c.Environ(), pairs...) }
}

// Dir starts the program in dir.
func Dir(dir string) Option { return func(c *exec.Cmd) { c.Dir = dir } }

// Pin binds the program and its children to one CPU through taskset, from its
// first instruction on.
func Pin(cpu int) Option {
	return func(c *exec.Cmd) {
		p, err := Find("taskset")
		if err != nil {
			c.Err = err
			return
		}
		c.Args = append([]string{p, "-c", strconv.Itoa(cpu)}, append([]string{c.Path}, c.Args[1:]...)...)
		c.Path = p
	}
}

// Start starts the program at path. Its output is kept for messages; Output
// returns it.
func Start(path string, args []string, opts ...Option) (*Proc, error) {
	cmd := exec.CommandContext(context.Background(), path, args...) // ended by Stop, not by a context
	for _, o := range opts {
		o(cmd)
	}
	p := &Proc{Name: path, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	// An own group makes Stop reach the children too; the death signal makes
	// sure that nothing is left when this process is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open must not hold Wait
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("proc: start %s: %w", path, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process id, which is also the id of its group.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Output returns the last 64 KiB the program wrote to stdout and stderr.
func (p *Proc) Output() string { return p.out.String() }

// Done is closed when the program has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Wait waits until the program has ended or ctx is done, and returns its exit
// error (nil for status 0).
func (p *Proc) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("proc: %s still runs: %w", p.Name, context.Cause(ctx))
	}
}

// Signal sends s to the program alone, not to its children.
func (p *Proc) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("proc: signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the whole group with SIGKILL and waits for the program.
func (p *Proc) Kill() {
	p.group(syscall.SIGKILL)
	<-p.done
}

// Stop ends the whole group: SIGTERM, and after 5 s SIGKILL. It may be called
// more than once.
func (p *Proc) Stop() {
	p.group(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
	}
	p.Kill()
}

// group signals the group. Once the leader has been waited for and the group is
// empty its id may belong to somebody else, so only a group that still has one
// of our processes gets the signal.
func (p *Proc) group(s syscall.Signal) {
	select {
	case <-p.done:
		if len(members(p.PID())) == 0 {
			return
		}
	default:
	}
	_ = syscall.Kill(-p.PID(), s) // ESRCH: it ended by itself, which is what is wanted
}

// AwaitTCP waits until addr accepts connections. It fails early, with the
// program's output, when the program ends first.
func (p *Proc) AwaitTCP(ctx context.Context, addr string) error {
	return p.Await(ctx, "accept connections on "+addr, func(ctx context.Context) bool {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// Await asks ok every 10 ms until it says yes. It fails when ctx is done or the
// program ends; what names the awaited event in the error.
func (p *Proc) Await(ctx context.Context, what string, ok func(context.Context) bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("proc: %s ended before it could %s: %w\n%s", p.Name, what, p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("proc: %s did not %s: %w\n%s", p.Name, what, context.Cause(ctx), p.Output())
		}
	}
}
