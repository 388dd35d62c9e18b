package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// whole is a sidecar's whole request path on its own loop, with memory in place
// of both sockets: a caller's frames in, the app's frames back, as often as asked.
type whole struct {
	loop *loop
	down *h2.Conn
	up   *h2.Conn

	asks   [][]byte // HEADERS frames of a caller, in turn; the first resets its table
	next   int      // of asks
	answer []byte   // HEADERS and DATA of the app
	data   int      // where in answer DATA begins
	callID uint32   // of the caller's next stream
	appID  uint32   // of the next one that the sidecar opens

	in, back   []byte // what is fed in a turn
	spare      [2][]byte
	sent       int // bytes that the caller may still get on the connection
	last       *Exchange
	replies    int // END_STREAM flags that the caller saw
	replyBytes int
}

const (
	wholeBatch = 16 // requests a wake-up: what saturation gives
	wholeBody  = 200
	wholeAsks  = 1024
)

// header is one field of a message to be encoded.
type header [2]string

// blocks encodes each message with one encoder, as Go's and nghttp2's do it:
// everything is indexed and Huffman-coded. The first block empties the table, so
// that the sequence can be sent again and again.
func blocks(n int, fields func(i int) []header) [][]byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	out := make([][]byte, n)
	for i := range out {
		b.Reset()
		if i == 0 {
			e.SetMaxDynamicTableSize(0)
			e.SetMaxDynamicTableSize(4096)
		}
		for _, f := range fields(i) {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		out[i] = bytes.Clone(b.Bytes())
	}
	return out
}

func headersFrame(block []byte, flags http2.Flags) []byte {
	var b bytes.Buffer
	_ = http2.NewFramer(&b, nil).WriteRawFrame(http2.FrameHeaders, flags, 1, block)
	return b.Bytes()
}

// staticAsk is what h2load sends: after the first time all of it is indexed.
func staticAsk(int) []header {
	return []header{
		{":path", query},
		{":scheme", "http"},
		{":authority", "127.0.0.1:8080"},
		{":method", "GET"},
		{"user-agent", "h2load nghttp2/1.52.0"},
	}
}

// uniqueAsk is one of 16 tenants that asks for one of 64 metrics, with a trace id
// of its own.
func uniqueAsk(i int) []header {
	return []header{
		{":method", "GET"},
		{":scheme", "http"},
		{":authority", "127.0.0.1:8080"},
		{":path", fmt.Sprintf("%s?metric=metric-%d&from=%d", query, i*7%64, 1700000000+i)},
		{"user-agent", "grpc-go/1.70.0"},
		{"accept", "application/json"},
		{"x-tenant-id", fmt.Sprintf("tenant-%d", i%16)},
		{"traceparent", fmt.Sprintf("00-%016x%016x-%016x-00", uint64(i)*0x9e3779b97f4a7c15, uint64(i)*0xbf58476d1ce4e5b9, uint64(i)*0x94d049bb133111eb)},
	}
}

// pipeTo dials an app that reads everything and says nothing.
func pipeTo(context.Context, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	return near, nil
}

// discard is the engine of a caller's connection whose real one the test drives.
type discard struct{}

func (discard) Feed(int64, []byte) error       { return nil }
func (discard) FeedEOF()                       {}
func (discard) TakeOutput(spare []byte) []byte { return spare[:0] }
func (discard) Backlog(int)                    {}
func (discard) Reading() bool                  { return true }
func (discard) Closing() bool                  { return false }

// tap is a caller's connection that shows its last exchange.
type tap struct {
	*h2Down
	whole *whole
}

func (t tap) OnHead(s *h2.Stream, head *field.List, end bool) {
	t.h2Down.OnHead(s, head, end)
	t.whole.last, _ = s.Owner.(*Exchange)
}

// on runs f on the loop and waits for it.
func (w *whole) on(f func()) {
	done := make(chan struct{})
	w.loop.post(func() {
		defer close(done)
		f()
	})
	<-done
}

// newWhole starts a sidecar with everything on that a request's path can have:
// telemetry, breakers per key, and stored replies.
func newWhole(tb testing.TB, ask func(i int) []header, models Models) *whole {
	tb.Helper()
	return wholeWith(tb, ask, models, func(*snapshot.Listener) {}, query)
}

// managedWhole starts one whose listener is a management server's with the fields
// that Envoy has when the configuration says nothing; nothing is stored.
func managedWhole(tb testing.TB, ask func(i int) []header) *whole {
	tb.Helper()
	return wholeWith(tb, ask, nil, func(l *snapshot.Listener) {
		l.HTTP = snapshot.HTTP{
			Envoy: true, GenerateRequestID: true, ServerHeader: snapshot.ServerOverwrite, ServerName: "envoy",
			StreamIdleTimeout: 5 * time.Minute,
		}
	})
}

// wholeWith starts a sidecar whose listener change has changed.
func wholeWith(tb testing.TB, ask func(i int) []header, models Models, change func(*snapshot.Listener), degrade ...string) *whole {
	tb.Helper()
	snap, err := snapshot.Compile(snapshot.Source{
		Role: "inbound", Upstreams: []string{"h2c://app:80"}, Timeout: 15 * time.Second, Idle: time.Minute, Degrade: degrade,
	})
	if err != nil {
		tb.Fatal(err)
	}
	change(snap.Listeners[0])
	s, err := New(Options{Snapshot: snap, Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler), Dial: pipeTo, Models: models})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	w := &whole{loop: s.loops[0], callID: 1, appID: 1}
	for _, b := range blocks(wholeAsks, ask) {
		w.asks = append(w.asks, headersFrame(b, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream))
	}
	head := blocks(2, func(int) []header {
		return []header{
			{":status", "200"},
			{"server", "nghttpd nghttp2/1.52.0"},
			{"cache-control", "max-age=3600"},
			{"date", "Mon, 01 Jan 2024 00:00:00 GMT"},
			{"content-length", strconv.Itoa(wholeBody)},
			{"last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"},
			{"content-type", "application/json"},
			{"x-model-version", "score@2"},
		}
	})
	w.answer = headersFrame(head[1], http2.FlagHeadersEndHeaders)
	w.data = len(w.answer)
	var body bytes.Buffer
	_ = http2.NewFramer(&body, nil).WriteData(1, true, make([]byte, wholeBody))
	w.answer = append(w.answer, body.Bytes()...)

	k := new(place)
	k.site.Store(s.current.Load().sites["main"])
	near, _ := pipeTo(tb.Context(), "")
	var greeting bytes.Buffer
	fr := http2.NewFramer(&greeting, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = fr.WriteSettingsAck()
	w.on(func() {
		c := newDownConn(w.loop, k, near)
		w.loop.conns[c] = struct{}{}
		w.loop.downConns.Add(1)
		c.conn.Attach(discard{}, c)
		c.h2 = true
		w.down = h2.NewServer(c.h2Config(), tap{&h2Down{c}, w})
		c.engine = w.down
		_ = w.down.Feed(0, append([]byte(http2.ClientPreface), greeting.Bytes()...))
		w.ask(1)
	})
	for w.up == nil { // the dial is under way
		w.on(func() {
			if w.last.up != nil {
				w.up = w.last.up.(*h2.Stream).Conn()
			}
		})
	}
	w.on(func() {
		_ = w.up.Feed(0, greeting.Bytes())
		_ = w.up.Feed(0, headersFrame(head[0], http2.FlagHeadersEndHeaders)) // fills the table
		w.reply(1, true)
	})
	return w
}

// ask feeds n requests, as one read brings them.
func (w *whole) ask(n int) {
	w.in = w.in[:0]
	if w.sent < n*2*wholeBody { // the caller's window of the connection
		w.in = append(w.in, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
		w.in = binary.BigEndian.AppendUint32(w.in, 1<<30)
		w.sent += 1 << 30
	}
	for range n {
		at := len(w.in)
		w.in = append(w.in, w.asks[w.next]...)
		if w.next++; w.next == len(w.asks) {
			w.next = 0
		}
		binary.BigEndian.PutUint32(w.in[at+5:], w.callID)
		w.callID += 2
	}
	if err := w.down.Feed(0, w.in); err != nil {
		panic(err)
	}
}

// reply feeds the app's replies to the last n requests; bodies says that their
// heads were sent already.
func (w *whole) reply(n int, bodies bool) {
	w.back = w.back[:0]
	for range n {
		at := len(w.back)
		if !bodies {
			w.back = append(w.back, w.answer...)
			binary.BigEndian.PutUint32(w.back[at+5:], w.appID)
			at += w.data
		} else {
			w.back = append(w.back, w.answer[w.data:]...)
		}
		binary.BigEndian.PutUint32(w.back[at+5:], w.appID)
		w.appID += 2
	}
	if err := w.up.Feed(0, w.back); err != nil {
		panic(err)
	}
	w.take(&w.spare[1], w.up)
	w.take(&w.spare[0], w.down)
	w.loop.settle()
}

func (w *whole) take(spare *[]byte, c *h2.Conn) {
	out := c.TakeOutput(*spare)
	if c == w.down {
		w.replyBytes += len(out)
		w.sent -= len(out)
		for p := out; len(p) >= 9; p = p[9+(int(p[0])<<16|int(p[1])<<8|int(p[2])):] {
			if p[3] == byte(http2.FrameData) {
				w.replies += int(p[4]) & int(http2.FlagDataEndStream)
			}
		}
	}
	*spare = out
	c.Backlog(0)
}

// turn takes a batch of requests through.
func (w *whole) turn() {
	w.ask(wholeBatch)
	w.take(&w.spare[1], w.up)
	w.reply(wholeBatch, false)
}

var wholeAskers = map[string]func(int) []header{"static": staticAsk, "unique": uniqueAsk}

// TestRequestAllocatesNothing is the promise of the data plane: in steady state
// no byte is allocated from a caller's frame to the app's and back.
func TestRequestAllocatesNothing(t *testing.T) {
	makers := map[string]func() *whole{}
	for name, ask := range wholeAskers {
		makers[name] = func() *whole { return newWhole(t, ask, oneVersion()) }
		makers["managed/"+name] = func() *whole { return managedWhole(t, ask) }
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			w := make()
			w.on(func() {
				for range 2 * wholeAsks / wholeBatch { // every key has been seen, and every buffer has grown
					w.turn()
				}
				before := w.replies
				n := testing.AllocsPerRun(wholeAsks/wholeBatch, w.turn)
				if n != 0 {
					t.Errorf("%v allocations in a batch of %d requests", n, wholeBatch)
				}
				if got, want := w.replies-before, wholeAsks+wholeBatch; got != want {
					t.Errorf("%d whole replies of %d", got, want)
				}
			})
		})
	}
}

// BenchmarkRequest is what a request costs besides its system calls.
func BenchmarkRequest(b *testing.B) {
	for _, name := range []string{"static", "unique"} {
		b.Run(name, func(b *testing.B) {
			newWhole(b, wholeAskers[name], oneVersion()).bench(b)
		})
	}
	for _, name := range []string{"static", "unique"} {
		b.Run("managed/"+name, func(b *testing.B) {
			managedWhole(b, wholeAskers[name]).bench(b)
		})
		b.Run("plain/"+name, func(b *testing.B) { // the same without what a managed listener adds
			wholeWith(b, wholeAskers[name], nil, func(*snapshot.Listener) {}).bench(b)
		})
	}
}

// bench measures turns in steady state.
func (w *whole) bench(b *testing.B) {
	b.Helper()
	b.ReportAllocs()
	w.on(func() {
		for range 2 * wholeAsks / wholeBatch {
			w.turn()
		}
		for b.Loop() {
			w.turn()
		}
	})
	b.ReportMetric(float64(b.Elapsed())/float64(b.N*wholeBatch), "ns/request")
}
