package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// fort is a sidecar with one shard on real sockets, with Go's own server behind
// it and a bystander who must not notice what others do.
type fort struct {
	t         *testing.T
	server    *Server
	reg       *telemetry.Registry
	address   string
	bystander *http.Client
	release   chan struct{} // what /hang waits for
}

// newFort starts one. tune changes its listener, and change its options.
func newFort(t *testing.T, tune func(*snapshot.Listener), change ...func(*Options)) *fort {
	t.Helper()
	f := &fort{t: t, reg: telemetry.NewRegistry(), release: make(chan struct{})}
	app := f.serve(f.app())
	in := listener("main", "127.0.0.1:0", "app")
	route := in.Inline.Hosts[0].Routes[0].Forward
	route.HasIdle, route.Idle = true, time.Minute
	if tune != nil {
		tune(in)
	}
	f.start(snapshotOf([]*snapshot.Listener{in}, cluster("app", app)), change...)
	return f
}

func (f *fort) start(s *snapshot.Snapshot, change ...func(*Options)) {
	f.t.Helper()
	o := Options{Snapshot: new(snapshot.Snapshot), Registry: f.reg, Log: quiet(f.t)}
	for _, c := range change {
		c(&o)
	}
	var err error
	if f.server, err = New(o); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.server.Close)
	for _, l := range s.Listeners {
		if err := f.server.Listen(l); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := f.server.Apply(s); err != nil {
		f.t.Fatal(err)
	}
	f.address = f.server.Addrs(s.Listeners[0].Name)[0].String()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	f.t.Cleanup(tr.CloseIdleConnections)
	f.bystander = &http.Client{Transport: tr}
}

// mebibyte is shared: what an app holds of its replies is not what is measured.
var mebibyte = make([]byte, 1<<20)

// app answers /; /big with 1 MiB; /read when the body ended; /hang when it may.
func (f *fort) app() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			_, _ = w.Write(mebibyte)
		case "/read":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/hang":
			select {
			case <-f.release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "ok")
	}
}

// serve starts Go's own server, for both protocols, and returns its address.
func (f *fort) serve(h http.Handler) string {
	f.t.Helper()
	ln := f.listen()
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: p, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	f.t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return ln.Addr().String()
}

func (f *fort) listen() net.Listener {
	f.t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// ask sends a request as the bystander.
func (f *fort) ask(path string) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+f.address+path, nil)
	if err != nil {
		return err
	}
	resp, err := f.bystander.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || string(b) != "ok" {
		return fmt.Errorf("bystander got %d %q, %w", resp.StatusCode, b, err)
	}
	return nil
}

// meanwhile has the bystander ask all the time while do runs: before, during and
// after it, every request must succeed.
func (f *fort) meanwhile(do func()) {
	f.t.Helper()
	if err := f.ask("/"); err != nil {
		f.t.Fatal(err)
	}
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			if err := f.ask("/"); err != nil {
				failed <- err
				return
			}
			select {
			case <-stop:
				failed <- f.ask("/") // one more, begun after the end
				return
			default:
			}
		}
	}()
	do()
	close(stop)
	if err := <-failed; err != nil {
		f.t.Error(err)
	}
}

// on runs do on the only shard and waits for it.
func (f *fort) on(do func(l *loop)) {
	done := make(chan struct{})
	l := f.server.loops[0]
	l.post(func() { do(l); close(done) })
	<-done
}

// count is a counter's value.
func (f *fort) count(id telemetry.CounterID) uint64 { return f.reg.Total(id) }

// until waits for a condition that another goroutine brings about.
func (f *fort) until(what string, ok func() bool) {
	f.t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(limit) {
			f.t.Fatalf("%s: it does not happen", what)
		}
	}
}

// liveHeap is the live heap.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what pools keep is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// grownSince returns by how much the heap has grown since before, in bytes. Others
// allocate between a collection and the count, which on a busy machine is much: what
// is held is there each time, so that the least of a few looks counts.
func grownSince(before, most int64) int64 {
	least := liveHeap() - before
	for range 9 {
		if least <= most {
			break
		}
		least = min(least, liveHeap()-before)
	}
	return least
}

// attacker is a connection to the sidecar that keeps to no rule.
type attacker struct {
	*fort
	nc   net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	fr   *http2.Framer
	over chan struct{} // closed when the sidecar ended the connection
	down *downConn     // the sidecar's side; read it on its shard

	mu     sync.Mutex
	goaway *http2.GoAwayFrame
	resets map[http2.ErrCode]int
	heads  map[string]int // responses by status
	data   int            // bytes of bodies
	whole  int            // responses that ended
	bdp    bool           // DATA is answered as gRPC does
	text   []byte         // of HTTP/1.1
}

// attack opens a connection for raw bytes.
func (f *fort) attack() *attacker {
	f.t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(f.t.Context(), "tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = nc.Close() })
	a := newAttacker(f, nc)
	f.until("the connection is taken", func() bool {
		f.on(func(l *loop) {
			for c := range l.conns {
				if c.remote.String() == nc.LocalAddr().String() {
					a.down = c
				}
			}
		})
		return a.down != nil
	})
	return a
}

func newAttacker(f *fort, nc net.Conn) *attacker {
	return &attacker{
		fort: f, nc: nc, r: bufio.NewReader(nc), w: bufio.NewWriterSize(nc, 32<<10),
		over: make(chan struct{}), resets: make(map[http2.ErrCode]int), heads: make(map[string]int),
	}
}

// raw begins to read as an HTTP/1.1 caller.
func (a *attacker) raw() *attacker {
	go func() {
		defer close(a.over)
		b := make([]byte, 4096)
		for {
			n, err := a.nc.Read(b)
			a.mu.Lock()
			a.text = append(a.text, b[:n]...)
			a.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return a
}

// h2 exchanges SETTINGS and begins to read frames.
func (a *attacker) h2(settings ...http2.Setting) *attacker {
	a.fr = http2.NewFramer(a.w, a.r)
	a.fr.AllowIllegalWrites = true
	_, _ = a.w.WriteString(http2.ClientPreface)
	_ = a.fr.WriteSettings(settings...)
	_ = a.fr.WriteSettingsAck()
	_ = a.w.Flush()
	go a.read()
	return a
}

func (a *attacker) read() {
	defer close(a.over)
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := a.fr.ReadFrame()
		if err != nil {
			return
		}
		a.mu.Lock()
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				a.goaway = f
			}
		case *http2.RSTStreamFrame:
			a.resets[f.ErrCode]++
		case *http2.HeadersFrame:
			if fields, err := dec.DecodeFull(f.HeaderBlockFragment()); err == nil && fields[0].Name == ":status" {
				a.heads[fields[0].Value]++
			}
		case *http2.DataFrame:
			a.data += len(f.Data())
			if f.StreamEnded() {
				a.whole++
			}
			if n := uint32(len(f.Data())); a.bdp && n > 0 {
				_ = a.fr.WritePing(false, [8]byte{1})
				_ = a.fr.WriteWindowUpdate(0, n)
				_ = a.fr.WriteWindowUpdate(f.StreamID, n)
				_ = a.w.Flush()
			}
		}
		gone := a.goaway != nil
		a.mu.Unlock()
		if gone {
			return // what follows is only the transport's end
		}
	}
}

// ended reports whether the sidecar ended the connection.
func (a *attacker) ended() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

// flood repeats send until the sidecar ends the connection, at most n times.
func (a *attacker) flood(n int, send func(i int)) {
	a.t.Helper()
	for i := range n {
		if send(i); i%64 == 63 && (a.w.Flush() != nil || a.ended()) {
			break
		}
	}
	_ = a.w.Flush()
}

// cut waits until the sidecar ended the connection, with that error code.
func (a *attacker) cut(code http2.ErrCode) {
	a.t.Helper()
	<-a.over
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.goaway == nil || a.goaway.ErrCode != code {
		a.t.Errorf("the connection ended with %v (resets %v, heads %v), want GOAWAY %v", a.goaway, a.resets, a.heads, code)
	}
}

// replied waits for n responses of that status, or resets of that code.
func (a *attacker) replied(what any, n int) {
	a.t.Helper()
	_ = a.w.Flush() // fails when the connection is over
	a.until(fmt.Sprintf("%d times %v", n, what), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch what := what.(type) {
		case string:
			return a.heads[what] >= n
		case http2.ErrCode:
			return a.resets[what] >= n
		}
		return false
	})
}

// said waits for the end of an HTTP/1.1 connection that was answered with a
// status.
func (a *attacker) said(status string) {
	a.t.Helper()
	<-a.over
	a.mu.Lock()
	defer a.mu.Unlock()
	if !bytes.HasPrefix(a.text, []byte("HTTP/1.1 "+status+" ")) {
		a.t.Errorf("answered %.80q, want %s", a.text, status)
	}
}

// stats are what the engine saw.
func (a *attacker) stats() (s h2.Stats) {
	a.on(func(*loop) {
		if e, ok := a.down.engine.(*h2.Conn); ok {
			s = e.Stats()
		}
	})
	return s
}

// fieldBlock encodes fields as literals that leave the compression table alone.
func fieldBlock(fields ...string) (out []byte) {
	for i := 0; i+1 < len(fields); i += 2 {
		out = appendText(appendText(append(out, 0), fields[i]), fields[i+1])
	}
	return out
}

// appendText appends a string literal of RFC 7541 section 5.2.
func appendText(dst []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		return append(append(dst, byte(n)), s...)
	}
	dst = append(dst, 127)
	for n -= 127; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(append(dst, byte(n)), s...)
}

// getHead is a request's head.
func getHead(path string, fields ...string) []byte {
	return fieldBlock(append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", path}, fields...)...)
}

func postHead(path string, fields ...string) []byte {
	return fieldBlock(append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", path}, fields...)...)
}

func (a *attacker) head(id uint32, block []byte, end bool) {
	_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

// write sends text, and reports false when the connection takes no more.
func (a *attacker) write(text string) bool {
	_, err := io.WriteString(a.nc, text)
	return err == nil && !a.ended()
}

// pour repeats text until the sidecar ends the connection, at most n times.
func (a *attacker) pour(n int, text string) {
	a.t.Helper()
	for range n {
		if !a.write(text) {
			return
		}
	}
}
