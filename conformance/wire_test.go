package conformance

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is a caller's HTTP/2 connection, frame by frame: Go's own client hides
// GOAWAY and opens a connection of its own accord.
type wire struct {
	t  *testing.T
	nc net.Conn

	mu      sync.Mutex // guards the framer's writes and what follows
	fr      *http2.Framer
	next    uint32 // the stream to open
	ended   map[uint32]string
	bodies  map[uint32]*strings.Builder
	status  map[uint32]string
	away    []any // last stream and code of each GOAWAY
	changed chan struct{}
	gone    bool
}

// dialWire connects to addr.
func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(deadline(t, within), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	w := &wire{
		t: t, nc: nc, fr: http2.NewFramer(nc, nc), next: 1, changed: make(chan struct{}),
		ended: make(map[uint32]string), bodies: make(map[uint32]*strings.Builder), status: make(map[uint32]string),
	}
	w.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := nc.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := w.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	go w.read()
	return w
}

// ask opens a stream with a GET.
func (w *wire) ask(path string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "held.example"}, {":path", path}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	id := w.next
	w.next += 2
	w.bodies[id] = new(strings.Builder)
	if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}); err != nil {
		w.t.Errorf("stream %d: %v", id, err)
	}
}

// read takes frames until the connection ends.
func (w *wire) read() {
	for {
		f, err := w.fr.ReadFrame()
		w.mu.Lock()
		if err != nil {
			w.gone = true
			w.tell()
			w.mu.Unlock()
			return
		}
		w.take(f)
		w.tell()
		w.mu.Unlock()
	}
}

// take notes a frame.
func (w *wire) take(f http2.Frame) {
	end := func(id uint32, how string) {
		if w.ended[id] == "" {
			w.ended[id] = how
		}
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if w.status[f.StreamID] == "" {
			w.status[f.StreamID] = f.PseudoValue("status")
		}
		if f.StreamEnded() {
			end(f.StreamID, "whole")
		}
	case *http2.DataFrame:
		if b := w.bodies[f.StreamID]; b != nil {
			b.Write(f.Data())
		}
		_ = w.fr.WriteWindowUpdate(0, max(1, f.Length)) // who is gone needs none
		if f.StreamEnded() {
			end(f.StreamID, "whole")
		}
	case *http2.RSTStreamFrame:
		end(f.StreamID, f.ErrCode.String())
	case *http2.GoAwayFrame:
		w.away = append(w.away, f.LastStreamID, f.ErrCode)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = w.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = w.fr.WritePing(true, f.Data)
		}
	}
}

func (w *wire) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until ok, which is asked with the lock held, or the connection's end.
func (w *wire) await(ctx context.Context, ok func() bool) {
	for {
		w.mu.Lock()
		done, changed := w.gone || ok(), w.changed
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.nc.Close()
			ctx = context.WithoutCancel(ctx)
		}
	}
}

// whole waits until every stream has ended, and returns how many brought a 200 with
// all of body.
func (w *wire) whole(ctx context.Context, body string) (n int) {
	w.await(ctx, func() bool { return len(w.ended) == len(w.bodies) })
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, b := range w.bodies {
		if w.ended[id] == "whole" && w.status[id] == "200" && b.String() == body {
			n++
		}
	}
	return n
}

// end waits until the connection has ended.
func (w *wire) end(ctx context.Context) { w.await(ctx, func() bool { return false }) }

// goAways returns the last stream and the code of each GOAWAY, in turn.
func (w *wire) goAways() []any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}
