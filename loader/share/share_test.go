//go:build linux

package share_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/client"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/loader/wire"
)

func TestVersionsAreMappedCheckedAndSwitched(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.open()
	lease, err := c.Acquire(7)
	must(t, err)
	must(t, lease.With(func(v client.View) error { return check(v, 1) }))
	lease.Release()

	r.drop(2, 1, 0)
	if ev := r.await(loader.EventShared, 2); ev.Bytes != int64(len(file(2))) {
		t.Errorf("%+v", ev)
	}
	r.await(loader.EventActive, 2)
	r.eventually("switched", func() bool {
		lease, err := c.Acquire(7)
		must(t, err)
		defer lease.Release()
		n := lease.Info().Number
		must(t, lease.With(func(v client.View) error { return check(v, n) }))
		i := lease.Info()
		if n == 2 && (i.Hashed == 0 || i.Hashed > i.Size/2 || !i.Sealed && os.Getuid() == 0 || i.Private > i.Size/2) {
			t.Errorf("%+v: want what is the same as before not to be hashed again", i)
		}
		return n == 2
	})
	r.drop(3, 2, 0) // v1 is let go of
	r.await(loader.EventUnloadSuccess, 1)
}

// A canary begins, and a version becomes active, when every process that was
// attached is ready.
func TestCanaryWaitsForEveryProcess(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	r.open()
	slow := r.ready(1)
	r.drop(2, 1, 5)
	slow.until(wire.TypePieces)
	if s := r.state(2); s != "pending" {
		t.Errorf("version 2 is %s before all are ready, want pending", s)
	}
	slow.mapMark()
	slow.send(wire.AppendNumber(nil, wire.TypeReady, 2))
	if ev := r.await(loader.EventShared, 2); !mentions(ev, "2 processes") {
		t.Errorf("%+v", ev)
	}
	r.await(loader.EventCanary, 2)
	m, err := wire.ParseSwitch(slow.until(wire.TypeSwitch).Body)
	must(t, err)
	if m.Active != 1 || m.Canary != 2 || m.Share != 214748365 {
		t.Errorf("%+v, want 5 %% for version 2", m)
	}
	must(t, r.l.Rollback(t.Context(), "score", 2, "by hand"))
	m, err = wire.ParseSwitch(slow.until(wire.TypeSwitch).Body)
	must(t, err)
	if m != (wire.Switch{Active: 1}) {
		t.Errorf("%+v, want version 1 alone", m)
	}
	rel, err := wire.ParseRelease(slow.until(wire.TypeRelease).Body)
	must(t, err)
	if rel.Version != 2 || rel.Within != loader.DefaultReclaim {
		t.Errorf("%+v", rel)
	}
	if s := r.state(2); s != "unloading" {
		t.Errorf("version 2 is %s, want unloading", s)
	}
	slow.unmapMark()
	slow.send(wire.AppendNumber(nil, wire.TypeReleased, 2))
	r.await(loader.EventUnloadSuccess, 2)
}

func TestProcessThatIsNotReadyInTimeIsCutOff(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Ready = 100 * time.Millisecond })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.raw(wire.Hello{Model: "score"})
	c.until(wire.TypePieces)
	ev := r.await(loader.EventDetached, 0)
	if !mentions(ev, pidText(os.Getpid()), "version 1 is not ready after 100ms") {
		t.Errorf("%+v", ev)
	}
	if why := wire.ParseRefused(c.until(wire.TypeRefused).Body); !strings.Contains(why, "not ready after") {
		t.Errorf("it was told %q", why)
	}
	r.drop(2, 1, 5) // and is not waited for
	r.await(loader.EventCanary, 2)
}

func TestProcessThatFindsAVersionWrongVetoesIt(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	r.open()
	c := r.ready(1)
	r.drop(2, 1, 5)
	c.until(wire.TypePieces)
	c.send(wire.AppendFailed(nil, 2, "another root:\na bad disk"))
	ev := r.await(loader.EventQuarantined, 2)
	if want := fmt.Sprintf("pid %d: another root: a bad disk", os.Getpid()); !mentions(ev, want) {
		t.Errorf("%+v, want %q", ev, want)
	}
	r.never(loader.EventCanary, 2)
	r.drop(3, 1, 0) // and the process goes on
	c.until(wire.TypePieces)
	c.mapMark()
	c.send(wire.AppendNumber(nil, wire.TypeReady, 3))
	r.await(loader.EventActive, 3)
}

// A version that a file's writer changed after it was proved is not used by a
// client: the client hashes what it maps.
func TestClientRefusesAnotherRoot(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	blob := filepath.Join(r.store, "models", "score", "1", "blob")
	b, err := os.ReadFile(blob)
	must(t, err)
	b[len(b)-1] ^= 1
	f, err := os.OpenFile(blob, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b[len(b)-1:], int64(len(b)-1))
	must(t, err)
	must(t, f.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if c, err := client.Open(ctx, r.socket, "score"); err == nil {
		c.Close()
		t.Fatal("a version that was changed was taken")
	}
	if ev := r.await(loader.EventDetached, 0); !mentions(ev, "version 1", "root") {
		t.Errorf("%+v", ev)
	}
}

func TestSealedBudget(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Sealed = 0 })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := client.Open(ctx, r.socket, "score")
	if err == nil || !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "sealed copy") {
		t.Errorf("got %v, want why it was refused", err)
	}
	if n := r.srv.Sealed(); n != 0 {
		t.Errorf("%d bytes are taken", n)
	}
}

// The protocol is kept to by force.
func TestOddFramesEndTheConnection(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	hello := wire.Hello{Model: "score"}.Append(nil)
	for name, c := range map[string]struct {
		first, then []byte
		why         string
	}{
		"no hello":         {wire.AppendNumber(nil, wire.TypeReady, 1), nil, "begins with READY"},
		"rubbish":          {[]byte("GET / HTTP/1.1\r\n\r\n"), nil, "unknown"},
		"long":             {[]byte{0, 0, 0, 1, 1, 0, 0, 0}, nil, "at most 1024"},
		"other protocol":   {append([]byte{22, 0, 0, 0, 1, 0, 0, 0}, "QSHARE1\x00\x02\x00\x00\x00\x00\x00\x00\x00\x04\x00scor"...), nil, "protocol version 2"},
		"hello twice":      {hello, hello, "HELLO out of turn"},
		"server's frame":   {hello, wire.AppendRefused(nil, "x"), "REFUSED out of turn"},
		"unknown version":  {hello, wire.AppendNumber(nil, wire.TypeReady, 9), "not shown"},
		"ready unmapped":   {hello, wire.AppendNumber(nil, wire.TypeReady, 1), "does not map its mark"},
		"released unasked": {hello, wire.AppendNumber(nil, wire.TypeReleased, 1), "unasked"},
		"failed to serve":  {hello, wire.AppendFailed(nil, 1, "no memory"), "no memory"},
	} {
		t.Run(name, func(t *testing.T) {
			n := r.raw(wire.Hello{})
			n.t = t
			n.send(c.first)
			if c.then != nil {
				n.until(wire.TypePieces)
				n.send(c.then)
			}
			if why := wire.ParseRefused(n.until(wire.TypeRefused).Body); !strings.Contains(why, c.why) {
				t.Errorf("it was told %q, want %q", why, c.why)
			}
		})
	}
}

// A client that takes nothing in is cut off; the queue for it is bounded.
func TestProcessThatNeverReadsIsCutOff(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Ready = 200 * time.Millisecond })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	r.raw(wire.Hello{Model: "score"})
	r.await(loader.EventAttached, 0)
	for n := uint64(2); n < 6; n++ {
		r.drop(n, n-1, 0)
		r.await(loader.EventActive, n)
	}
	r.eventually("cut off", func() bool { return r.srv.Status()[0].Processes == 0 })
}

// A thousand connections at once cost those who make them; who is attached stays
// so, and versions go on.
func TestAThousandConnections(t *testing.T) {
	r := newRig(t, func(o *share.Options) { o.Clients = 8 })
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.open()
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			var d net.Dialer
			nc, err := d.DialContext(r.ctx, "unix", r.socket)
			if err != nil {
				return // the kernel's queue is full
			}
			defer nc.Close()
			switch i % 3 {
			case 0:
				_, _ = nc.Write([]byte(strings.Repeat("rubbish!", 100)))
			case 1:
				_, _ = nc.Write(wire.Hello{Model: fmt.Sprint("model", i)}.Append(nil))
			}
		})
	}
	wg.Wait()
	r.drop(2, 1, 0)
	r.await(loader.EventActive, 2)
	r.eventually("switched", func() bool {
		lease, err := c.Acquire(0)
		must(t, err)
		defer lease.Release()
		return lease.Info().Number == 2
	})
	r.eventually("forgotten", func() bool { st := r.srv.Status(); return len(st) == 1 && st[0].Processes == 1 })
}

func TestTwoServersDoNotTakeOneSocket(t *testing.T) {
	r := newRig(t, nil)
	if _, err := share.Listen(t.Context(), share.Options{Socket: r.socket}); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("got %v", err)
	}
	plain := filepath.Join(filepath.Dir(r.socket), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	if _, err := share.Listen(t.Context(), share.Options{Socket: plain}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v", err)
	}
	r.close()
	if _, err := os.Lstat(r.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	// What a process that was killed leaves is replaced.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	must(t, err)
	ln.SetUnlinkOnClose(false)
	must(t, ln.Close())
	s, err := share.Listen(t.Context(), share.Options{Socket: r.socket})
	must(t, err)
	if fi, err := os.Stat(r.socket); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	must(t, s.Close())
}

// The sidecar's end changes nothing for who maps: the last version answers until
// the next sidecar's does.
func TestClientOutlivesTheSidecar(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.open()
	r.close()
	r.eventually("without a sidecar", func() bool { return c.Err() != nil })
	lease, err := c.Acquire(0)
	must(t, err)
	must(t, lease.With(func(v client.View) error { return check(v, 1) }))
	lease.Release()

	srv, err := share.Listen(t.Context(), share.Options{Socket: r.socket, Sealed: 1 << 30})
	must(t, err)
	l, err := loader.Open(t.Context(), loader.Options{Store: r.store, Source: r.src, Judge: hold{}, Sharer: srv})
	must(t, err)
	defer func() {
		must(t, srv.Close())
		must(t, l.Close())
	}()
	r.srv, r.l = srv, l
	r.drop(2, 1, 0)
	r.await(loader.EventActive, 2)
	r.eventually("switched", func() bool {
		lease, err := c.Acquire(0)
		must(t, err)
		defer lease.Release()
		must(t, lease.With(func(v client.View) error { return check(v, lease.Info().Number) }))
		return lease.Info().Number == 2
	})
}

// Versions whose tensors begin anywhere are mapped in windows, and checked.
func TestRaggedVersionsAreMappedInWindows(t *testing.T) {
	r := newRig(t, nil)
	r.drop(ragged, 0, 0)
	r.await(loader.EventActive, ragged)
	c := r.open()
	for n := uint64(ragged + 1); n < ragged+4; n++ {
		r.drop(n, n-1, 0)
		r.await(loader.EventShared, n)
		r.eventually("switched", func() bool {
			lease, err := c.Acquire(7)
			must(t, err)
			defer lease.Release()
			i := lease.Info()
			must(t, lease.With(func(v client.View) error {
				if _, whole := v.Contiguous(); whole && i.Number > ragged {
					t.Errorf("version %d lies in one piece: this tests nothing", i.Number)
				}
				return check(v, i.Number)
			}))
			if i.Number == n && i.Private > i.Size/2 {
				t.Errorf("%+v: want most of it mapped", i)
			}
			return i.Number == n
		})
	}
}

func TestAcquireAllocs(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c := r.open()
	if n := testing.AllocsPerRun(1000, func() {
		lease, err := c.Acquire(7)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Close revokes every lease that is out, also one on a version that another
// connection brought, and gives all memory back.
func TestCloseRevokesLeases(t *testing.T) {
	r := newRig(t, nil)
	before := mmap.Mappings()
	r.drop(1, 0, 0)
	r.await(loader.EventActive, 1)
	c, err := client.Open(r.ctx, r.socket, "score")
	must(t, err)
	old, err := c.Acquire(0)
	must(t, err)
	r.close()
	r.eventually("without a sidecar", func() bool { return c.Err() != nil })
	srv, err := share.Listen(t.Context(), share.Options{Socket: r.socket, Sealed: 1 << 30})
	must(t, err)
	l, err := loader.Open(t.Context(), loader.Options{Store: r.store, Sharer: srv})
	must(t, err)
	r.eventually("attached again", func() bool { return c.Err() == nil })
	must(t, old.With(func(v client.View) error { return check(v, 1) }))
	must(t, c.Close())
	<-old.Done()
	if err := old.With(func(client.View) error { return nil }); !errors.Is(err, client.ErrRevoked) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := c.Acquire(0); !errors.Is(err, client.ErrNoVersion) {
		t.Errorf("after Close: %v", err)
	}
	old.Release()
	must(t, srv.Close())
	must(t, l.Close())
	r.eventually("unmapped", func() bool { return mmap.Mappings() == before })
}
