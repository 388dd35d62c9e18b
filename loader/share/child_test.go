//go:build linux

package share_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/client"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/loader/wire"
)

const (
	childEnv  = "QUADNINE_SHARE_CHILD" // what the child does
	socketEnv = "QUADNINE_SHARE_SOCKET"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := children[what](os.Getenv(socketEnv)); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// children are what other processes do; each ends when its standard input does.
var children = map[string]func(socket string) error{"readers": readers, "hold": holdLease, "grip": grip}

// readers reads versions all the time, and says how it went.
func readers(socket string) error {
	c, err := client.Open(context.Background(), socket, "score")
	if err != nil {
		return err
	}
	fmt.Println("attached")
	var over atomic.Bool
	var reads, mixed, changes atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			last := uint64(0)
			for !over.Load() {
				lease, err := c.Acquire(rand.Uint64())
				if err != nil {
					fmt.Println("acquire:", err)
					mixed.Add(1)
					continue
				}
				n := lease.Info().Number
				if err := lease.With(func(v client.View) error { return check(v, n) }); err != nil {
					fmt.Println("read:", err)
					mixed.Add(1)
				}
				lease.Release()
				if n != last {
					last = n
					changes.Add(1)
				}
				reads.Add(1)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it
	over.Store(true)
	wg.Wait()
	if err := c.Close(); err != nil {
		return err
	}
	fmt.Printf("reads %d mixed %d changes %d\n", reads.Load(), mixed.Load(), changes.Load())
	return nil
}

// holdLease takes a lease and keeps it, even when it is revoked.
func holdLease(socket string) error {
	c, err := client.Open(context.Background(), socket, "score")
	if err != nil {
		return err
	}
	lease, err := c.Acquire(0)
	if err != nil {
		return err
	}
	fmt.Println("holds", lease.Info().Number)
	<-lease.Done()
	err = lease.With(func(client.View) error { return nil })
	fmt.Println("revoked", errors.Is(err, client.ErrRevoked))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// grip maps what it is offered and does nothing that it is asked for after that.
func grip(socket string) error {
	var d net.Dialer
	nc, err := d.DialContext(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	c := wire.NewConn(nc.(*net.UnixConn))
	if err := c.Send(wire.Hello{Model: "score"}.Append(nil)); err != nil {
		return err
	}
	n, err := mapOffer(c)
	if err != nil {
		return err
	}
	if err := c.Send(wire.AppendNumber(nil, wire.TypeReady, n)); err != nil {
		return err
	}
	fmt.Println("holds", n)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// mapOffer maps the first version that is offered, for good.
func mapOffer(c *wire.Conn) (uint64, error) {
	var o *wire.Offer
	var files []*os.File
	var pieces []wire.Piece
	for {
		f, err := c.Next()
		if err != nil {
			return 0, err
		}
		switch f.Type {
		case wire.TypeOffer:
			o, err = wire.ParseOffer(f.Body)
		case wire.TypeFiles:
			files = append(files, f.Files...)
		case wire.TypePieces:
			pieces, err = wire.ParsePieces(pieces, f.Body)
		}
		if err != nil {
			return 0, err
		}
		if o == nil || len(pieces) < o.Pieces {
			continue
		}
		r, err := mmap.Reserve(o.Region)
		if err != nil {
			return 0, err
		}
		for _, p := range pieces {
			if err := r.MapFile(p.At, files[p.File], p.Off, p.Len); err != nil {
				return 0, err
			}
		}
		for _, f := range files {
			f.Close()
		}
		return o.Version, nil
	}
}

// child is another process.
type child struct {
	*exec.Cmd

	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
}

func (r *rig) child(what string, as *syscall.Credential) *child {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, "/proc/self/exe") // another user may not enter the folder that it lies in
	cmd.Env = append(os.Environ(), childEnv+"="+what, socketEnv+"="+r.socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	must(r.t, err)
	out, err := cmd.StdoutPipe()
	must(r.t, err)
	cmd.Stderr = os.Stderr
	must(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{Cmd: cmd, t: r.t.(*testing.T), in: in, lines: bufio.NewScanner(out)}
}

// says returns the next line that begins with a word.
func (c *child) says(word string) string {
	c.t.Helper()
	for c.lines.Scan() {
		line := c.lines.Text()
		if strings.HasPrefix(line, word) {
			return line
		}
		c.t.Log("child:", line)
	}
	c.t.Fatalf("the child has ended without %q", word)
	return ""
}

// A process that reads all the time sees whole versions only, while others take their
// place.
func TestReadersInAnotherProcessSeeWholeVersions(t *testing.T) {
	versions := uint64(15) // make soak has the 200 of decision record 27
	if s := os.Getenv("QUADNINE_SHARED_VERSIONS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		must(t, err)
		versions = n
	}
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.child("readers", nil)
	c.says("attached")
	for n := uint64(2); n <= versions; n++ {
		r.drop(n, n-1, 0)
		r.await(loader.EventActive, n)
		r.never(loader.EventDetached, 0)
	}
	must(t, c.in.Close())
	var reads, mixed, changes int
	line := c.says("reads")
	_, err := fmt.Sscanf(line, "reads %d mixed %d changes %d", &reads, &mixed, &changes)
	must(t, err)
	if mixed != 0 || reads < int(versions) || changes < 10 {
		t.Errorf("%s, want none mixed and some changes seen", line)
	}
	t.Log(line)
	r.await(loader.EventLeft, 0)
}

// What a process does not let go of is told with its number, and counts as freed
// only when it has ended.
func TestProcessThatNeverLetsGo(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Ready, o.Reclaim = 200*time.Millisecond, 50*time.Millisecond })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.child("grip", nil)
	c.says("holds 1")
	r.drop(2, 1, 0)
	// It does not map version 2 either: it is cut off for that.
	r.await(loader.EventActive, 2)
	r.drop(3, 2, 0)
	ev := r.await(loader.EventHeld, 1)
	if size := len(file(1)); !mentions(ev, fmt.Sprintf("held by pid %d: %d bytes", c.Process.Pid, size)) || ev.Bytes != int64(size) {
		t.Errorf("%+v", ev)
	}
	for range 3 { // as often as it is looked at
		r.srv.Status()
	}
	if s := r.state(1); s != "unloading" {
		t.Errorf("version 1 is %s while it is mapped, want unloading", s)
	}
	if st := r.srv.Status(); len(st) != 1 || st[0].Held != int64(len(file(1))) || st[0].Processes != 0 {
		t.Errorf("%+v", st)
	}
	r.never(loader.EventUnloadSuccess, 1)
	must(t, c.Process.Kill())
	r.await(loader.EventUnloadSuccess, 1)
	r.eventually("freed", func() bool { return r.state(1) == "none" })
}

// A lease of the Go client is revoked where it is held: the memory returns though
// the process goes on.
func TestLeaseInAnotherProcessIsRevoked(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Reclaim = 50 * time.Millisecond })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.child("hold", nil)
	c.says("holds 1")
	r.drop(2, 1, 0)
	r.await(loader.EventActive, 2)
	r.drop(3, 2, 0)
	if ev := r.await(loader.EventHeld, 1); !mentions(ev, pidText(c.Process.Pid)) {
		t.Errorf("%+v", ev)
	}
	if line := c.says("revoked"); line != "revoked true" {
		t.Errorf("the late reader got %q", line)
	}
	r.await(loader.EventUnloadSuccess, 1)
	r.await(loader.EventAttached, 0) // it has come back, for the version that answers now
}

// Killed, or stopped, while a version is on its way.
func TestProcessDiesOrHangsWhileAVersionWaitsForIt(t *testing.T) {
	for name, c := range map[string]struct {
		sig  syscall.Signal
		says loader.Kind
	}{"killed": {syscall.SIGKILL, loader.EventLeft}, "stopped": {syscall.SIGSTOP, loader.EventDetached}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *share.Options) { o.Ready, o.Reclaim = 300*time.Millisecond, 300*time.Millisecond })
			r.drop(1, 0, 0)
			r.await(loader.EventActive, 1)
			p := r.child("readers", nil)
			p.says("attached")
			must(t, p.Process.Signal(c.sig))
			r.drop(2, 1, 5)
			if ev := r.await(c.says, 0); !mentions(ev, pidText(p.Process.Pid)) {
				t.Errorf("%+v", ev)
			}
			r.await(loader.EventCanary, 2)
			must(t, r.l.Rollback(t.Context(), "score", 2, "by hand"))
			must(t, p.Process.Kill())
			r.await(loader.EventUnloadSuccess, 2)
		})
	}
}

// Whoever could write the store's files gets sealed copies; everybody else maps
// the files.
func TestSealedCopiesAreForThoseWhoCouldWrite(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	p := r.child("readers", nil)
	p.says("attached")
	if n := r.srv.Sealed(); n != int64(len(file(1))) {
		t.Errorf("%d bytes of sealed copies for a process of the sidecar's own user, want %d", n, len(file(1)))
	}
	must(t, p.in.Close())
	p.says("reads")
	r.await(loader.EventLeft, 0)

	if os.Getuid() == 0 { // else there is no other user to be
		r2 := newRig(t, nil)
		r2.drop(1, 0, 0)
		r2.await(loader.EventActive, 1)
		must(t, os.Chmod(r2.socket, 0o666))
		p := r2.child("readers", &syscall.Credential{Uid: 65534, Gid: 65534})
		p.says("attached")
		r2.drop(2, 1, 0)
		r2.await(loader.EventShared, 2)
		r2.await(loader.EventActive, 2)
		if n := r2.srv.Sealed(); n != 0 {
			t.Errorf("%d bytes of sealed copies for a process that cannot write, want none", n)
		}
		must(t, p.in.Close())
		if line := p.says("reads"); !strings.Contains(line, "mixed 0") {
			t.Error(line)
		}
	}
}
