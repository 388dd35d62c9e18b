//go:build linux

package share_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
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
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/loader/wire"
)

const page = 4096

// tensors of a version: all that stamps say, "table" in every page and "rows" in
// a few, is the version's number.
var tensors = []struct {
	name  string
	pages int
}{{"constant", 64}, {"rows", 64}, {"table", 32}}

// ragged versions have tensors that begin anywhere, elsewhere in each version, and
// too large to be copied for that: they are mapped in windows.
const ragged = 1000

// pagesOf returns how many pages a tensor of version n has.
func pagesOf(name string, pages int, n uint64) int {
	if name == "constant" && n >= ragged {
		return 600
	}
	return pages
}

func stamped(name string, i int, n uint64) bool {
	return name == "table" || name == "rows" && (i%16 == 3 || uint64(i) == n%64)
}

var files sync.Map // of version → bytes

// file returns a version's safetensors bytes.
func file(n uint64) []byte {
	if b, ok := files.Load(n); ok {
		return b.([]byte)
	}
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	head := make(map[string]entry)
	var data []byte
	for _, t := range tensors {
		t.pages = pagesOf(t.name, t.pages, n)
		head[t.name] = entry{"U64", []int{t.pages, page / 8}, [2]int{len(data), len(data) + t.pages*page}}
		for i := range t.pages {
			p := bytes.Repeat([]byte{byte(i), byte(len(t.name))}, page/2)
			if stamped(t.name, i, n) {
				binary.LittleEndian.PutUint64(p, n)
			}
			data = append(data, p...)
		}
	}
	h, err := json.Marshal(head)
	if err != nil {
		panic(err)
	}
	begin := page
	if n >= ragged {
		begin = 1000 + int(n%7)*8
	}
	h = append(h, bytes.Repeat([]byte{' '}, begin-8-len(h))...)
	out := append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
	files.Store(n, out)
	return out
}

// check reports whether a view is version n and nothing else.
func check(v client.View, n uint64) error {
	if v.Info().Number != n {
		return fmt.Errorf("it says version %d", v.Info().Number)
	}
	for _, t := range tensors {
		t.pages = pagesOf(t.name, t.pages, n)
		_, b, ok := v.Tensor(t.name)
		if !ok || len(b) != t.pages*page {
			return fmt.Errorf("tensor %s has %d bytes", t.name, len(b))
		}
		for i := range t.pages {
			got := binary.LittleEndian.Uint64(b[i*page:])
			if stamped(t.name, i, n) && got != n {
				return fmt.Errorf("page %d of %s is version %d's, want %d's", i, t.name, got, n)
			}
		}
	}
	return nil
}

// rig is a loader that shares what is dropped.
type rig struct {
	t       testing.TB
	l       *loader.Loader
	srv     *share.Server
	src     source
	drops   string
	store   string
	socket  string
	heard   []loader.Event // of both
	told    map[int]bool   // which of them await has returned
	ctx     context.Context
	closing sync.Once
}

type source chan loader.Candidate

func (s source) Candidates() <-chan loader.Candidate { return s }

func newRig(t testing.TB, change func(*share.Options)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "share") //nolint:usetesting // short: a socket's path has at most 107 bytes
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a bound for a broken test, not a pace
	t.Cleanup(cancel)
	r := &rig{t: t, src: make(source), drops: filepath.Join(dir, "drops"), store: filepath.Join(dir, "store"), socket: filepath.Join(dir, "s"), ctx: ctx, told: make(map[int]bool)}
	o := share.Options{Socket: r.socket, Sealed: 1 << 30}
	if change != nil {
		change(&o)
	}
	r.srv, err = share.Listen(t.Context(), o)
	must(t, err)
	r.l, err = loader.Open(t.Context(), loader.Options{Store: r.store, Source: r.src, Judge: hold{}, Sharer: r.srv, Reclaim: o.Reclaim})
	must(t, err)
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	r.closing.Do(func() {
		must(r.t, r.srv.Close())
		must(r.t, r.l.Close())
	})
}

// hold never decides.
type hold struct{}

func (hold) Verdict(_, _ *loader.Info) (loader.Verdict, string) { return loader.Hold, "" }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// drop drops a version, as a delta when base is not 0, and reports it.
func (r *rig) drop(n, base uint64, weight float64) {
	r.t.Helper()
	name := fmt.Sprint("v", n)
	dir := filepath.Join(r.drops, name)
	must(r.t, os.MkdirAll(dir, 0o755))
	root, err := os.OpenRoot(dir)
	must(r.t, err)
	defer root.Close()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: n, SchemaVersion: 1, Canary: &delta.Canary{Weight: weight, PromoteAfter: time.Hour}}}
	if base == 0 {
		_, err = p.Full(r.ctx, root, bytes.NewReader(file(n)))
	} else {
		_, _, err = p.Delta(r.ctx, root, base, bytes.NewReader(file(base)), bytes.NewReader(file(n)), false)
	}
	must(r.t, err)
	r.src <- loader.Candidate{Drop: name, Dir: dir, Open: func() (*os.Root, error) { return os.OpenRoot(dir) }}
}

// await returns the first event of a kind, about version n unless it is 0, that was
// not returned before. Events of server and loader come in any order.
func (r *rig) await(k loader.Kind, n uint64) loader.Event {
	r.t.Helper()
	for at := 0; ; at++ {
		for at == len(r.heard) {
			select {
			case ev := <-r.l.Events():
				r.heard = append(r.heard, ev)
			case ev := <-r.srv.Events():
				r.heard = append(r.heard, ev)
			case <-r.ctx.Done():
				r.t.Fatalf("no %s of version %d; quarantined: %+v; heard last:\n%s", k, n, r.l.Quarantined(), r.last())
			}
		}
		if ev := r.heard[at]; ev.Kind == k && (n == 0 || ev.Version == n) && !r.told[at] {
			r.told[at] = true
			return ev
		}
	}
}

// last describes the last events.
func (r *rig) last() string {
	var b strings.Builder
	for _, ev := range r.heard[max(len(r.heard)-20, 0):] {
		fmt.Fprintf(&b, "%s %d: %s\n", ev.Kind, ev.Version, ev.Reason)
	}
	return b.String()
}

// never checks that no event of a kind came so far.
func (r *rig) never(k loader.Kind, n uint64) {
	r.t.Helper()
	for _, ev := range r.heard {
		if ev.Kind == k && ev.Version == n {
			r.t.Errorf("%s: %+v", k, ev)
		}
	}
}

func (r *rig) state(n uint64) string {
	for _, s := range r.l.Versions("score") {
		if s.Number == n {
			return s.State.String()
		}
	}
	return "none"
}

func (r *rig) open() *client.Client {
	r.t.Helper()
	c, err := client.Open(r.ctx, r.socket, "score")
	must(r.t, err)
	r.t.Cleanup(func() { must(r.t, c.Close()) })
	return c
}

// eventually asks until yes.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("not %s; heard last:\n%s", what, r.last())
		case <-time.After(time.Millisecond):
		}
	}
}

// raw is a client that does what the test says.
type raw struct {
	t    *testing.T
	conn *wire.Conn
	nc   *net.UnixConn
	own  *os.File     // of the last offer: what the mark is in
	mark *mmap.Region // what stands for the version
}

// ready is a raw client that says that it has mapped version n.
func (r *rig) ready(n uint64) *raw {
	r.t.Helper()
	c := r.raw(wire.Hello{Model: "score"})
	c.until(wire.TypePieces)
	c.mapMark()
	c.send(wire.AppendNumber(nil, wire.TypeReady, n))
	c.until(wire.TypeSwitch)
	return c
}

// mapMark maps of the last offer what stands for all of it.
func (c *raw) mapMark() {
	c.t.Helper()
	r, err := mmap.Reserve(page)
	must(c.t, err)
	must(c.t, r.MapFile(0, c.own, 0, page))
	c.mark = r
	c.t.Cleanup(func() { must(c.t, r.Unmap()) })
}

func (c *raw) unmapMark() { must(c.t, c.mark.Unmap()) }

func (r *rig) raw(hello wire.Hello) *raw {
	r.t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(r.ctx, "unix", r.socket)
	must(r.t, err)
	out := &raw{t: r.t.(*testing.T), nc: nc.(*net.UnixConn), conn: wire.NewConn(nc.(*net.UnixConn))}
	r.t.Cleanup(func() { out.conn.Close() })
	if hello.Model != "" {
		must(r.t, out.conn.Send(hello.Append(nil)))
	}
	return out
}

// until reads up to a frame of a type; descriptors are closed.
func (c *raw) until(want wire.Type) wire.Frame {
	c.t.Helper()
	for {
		f, err := c.conn.Next()
		if err != nil {
			c.t.Fatalf("waiting for %v: %v", want, err)
		}
		for i, x := range f.Files {
			if i == 0 {
				c.own = x
				c.t.Cleanup(func() { x.Close() })
				continue
			}
			x.Close()
		}
		if f.Type == wire.TypeRefused && want != wire.TypeRefused {
			c.t.Fatalf("refused: %s", wire.ParseRefused(f.Body))
		}
		if f.Type == want {
			return f
		}
	}
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	must(c.t, c.conn.Send(b))
}

func pidText(pid int) string { return fmt.Sprintf("pid %d", pid) }

func mentions(ev loader.Event, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(ev.Reason, w) {
			return false
		}
	}
	return true
}
