package proc_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// shell starts a shell script that ends with the test.
func shell(t *testing.T, script string) *proc.Proc {
	t.Helper()
	sh, err := proc.Find("sh")
	if err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(sh, []string{"-c", script})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// within returns a context that bounds a wait.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestFindNamesTheRemedy(t *testing.T) {
	_, err := proc.Find("no-such-program-9")
	if !errors.Is(err, proc.ErrMissing) || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("Find: %v, want ErrMissing and a hint at make deps", err)
	}
	err = proc.FindAll("sh", "no-such-program-9", "no-such-program-10")
	if err == nil || !strings.Contains(err.Error(), "no-such-program-9, no-such-program-10") {
		t.Errorf("FindAll: %v, want both missing names", err)
	}
}

func TestAddrsDiffer(t *testing.T) {
	addrs, err := proc.Addrs(50)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range addrs {
		if seen[a] || proc.Port(a) == 0 {
			t.Errorf("address %q came twice or has no port", a)
		}
		seen[a] = true
	}
}

func TestStopEndsChildrenToo(t *testing.T) {
	p := shell(t, `trap "" TERM; sleep 1000 & echo started; wait; sleep 1000`)
	err := p.Await(within(t), "start its child", func(context.Context) bool { return strings.Contains(p.Output(), "started") })
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	for ctx := within(t); ; runtime.Gosched() { // the kernel ends the child a moment after the signal
		if _, err := p.CPU(); err != nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("a process of the group outlived Kill")
		}
	}
}

func TestCPUCountsWorkOfChildren(t *testing.T) {
	// The subshell works; its parent waits. 200,000 rounds are some 0.1 s.
	p := shell(t, `(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; sleep 1000) & wait`)
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(within(t), "count", func(context.Context) bool { return strings.Contains(p.Output(), "done") }); err != nil {
		t.Fatal(err)
	}
	after, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if used := after - before; used < 10*time.Millisecond || used > 10*time.Second {
		t.Errorf("the children counted for %v of CPU, want the loop's some 100 ms", used)
	}
}

func TestAnonIsPartOfRSS(t *testing.T) {
	p := shell(t, `echo up; sleep 1000`)
	if err := p.Await(within(t), "start", func(context.Context) bool { return strings.Contains(p.Output(), "up") }); err != nil {
		t.Fatal(err)
	}
	anon, err := p.Anon()
	if err != nil {
		t.Fatal(err)
	}
	rss, err := p.RSS()
	if err != nil {
		t.Fatal(err)
	}
	if anon <= 0 || anon >= rss {
		t.Errorf("%d bytes of %d are anonymous", anon, rss)
	}
}

func TestAwaitReportsAnEarlyEnd(t *testing.T) {
	p := shell(t, `echo "cannot bind" >&2; exit 3`)
	err := p.Await(within(t), "listen", func(context.Context) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "cannot bind") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Await: %v, want the exit status and the program's own words", err)
	}
}
