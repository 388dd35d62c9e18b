package proxy

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// attackRow is one way to hurt a proxy. The rows are also docs/limits.md's table.
type attackRow struct {
	name string
	does string              // what the caller does
	sees string              // what becomes of it
	id   telemetry.CounterID // counts it
	heap int64               // bytes that its connection may hold; 0: heapGrowth
	most uint64              // HTTP/2 frames that are acted on before the end; 0: see run
	tune func(*snapshot.Listener)
	run  func(a *attacker)
}

const (
	calm = http2.ErrCodeEnhanceYourCalm
	// plenty units of an attack go over every budget.
	plenty = 100_000
	// heapGrowth is the most that an attacker's connection may add to the heap, in
	// bytes, this test's own buffers included.
	heapGrowth = 4 << 20
	// buffered is what 100 replies hold that are not taken: a window each, and as
	// much again on the upstream's side of the kernel's calls.
	buffered = 24 << 20
)

// quick are bounds that a test can wait for.
func quick(l *snapshot.Listener) {
	l.HTTP.HeadersTimeout = time.Second
	l.Inline.Hosts[0].Routes[0].Forward.Idle = time.Second
}

var attacks = []attackRow{
	{
		name: "rapid-reset", does: "opens streams and resets them at once (CVE-2023-44487)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodReset], most: 2000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(i int) {
				a.head(uint32(2*i+1), getHead("/hang"), true)
				_ = a.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
			})
			a.cut(calm)
		},
	},
	madeYouReset("window-0", "gives a stream a window of 0", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error { return fr.WriteWindowUpdate(id, 0) }),
	madeYouReset("window-overflow", "lets a stream's window overflow", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error { return fr.WriteWindowUpdate(id, 1<<31-1) }),
	madeYouReset("headers-half-closed", "sends HEADERS after the end of a request", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldBlock("x", "1"), EndHeaders: true, EndStream: true})
	}),
	madeYouReset("data-half-closed", "sends DATA after the end of a request", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error { return fr.WriteData(id, false, []byte("x")) }),
	madeYouReset("data-beyond-length", "sends more DATA than content-length says", postHead("/hang", "content-length", "1"), false, func(fr *http2.Framer, id uint32) error { return fr.WriteData(id, false, []byte("xx")) }),
	madeYouReset("priority-self", "makes a stream depend on itself", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error {
		return fr.WritePriority(id, http2.PriorityParam{StreamDep: id})
	}),
	madeYouReset("priority-size", "sends PRIORITY of a wrong size", getHead("/hang"), true, func(fr *http2.Framer, id uint32) error {
		return fr.WriteRawFrame(http2.FramePriority, 0, id, []byte{0})
	}),
	madeYouReset("trailers-unended", "sends a second header block that does not end the stream", postHead("/hang"), false, func(fr *http2.Framer, id uint32) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldBlock("x", "1"), EndHeaders: true})
	}),
	{
		name: "continuation-count", does: "sends CONTINUATION without end, a byte each (CVE-2024-27316)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodContinuation], most: 100,
		run: func(a *attacker) { a.h2().continuations([]byte{0x82}); a.cut(calm) },
	},
	{
		name: "continuation-bytes", does: "sends CONTINUATION without end, 16 KiB each", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodContinuation], most: 100,
		run: func(a *attacker) { a.h2().continuations(bytes.Repeat([]byte{0x82}, 16<<10)); a.cut(calm) },
	},
	{
		name: "empty-continuation", does: "sends empty CONTINUATION frames", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodEmpty], most: 20,
		run: func(a *attacker) { a.h2().continuations(nil); a.cut(calm) },
	},
	{
		name: "empty-data", does: "sends DATA without payload and without end (CVE-2019-9518)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodEmpty], most: 20,
		run: func(a *attacker) {
			a.h2().head(1, postHead("/read"), false)
			a.flood(plenty, func(int) { _ = a.fr.WriteData(1, false, nil) })
			a.cut(calm)
		},
	},
	{
		name: "ping", does: "sends PING (CVE-2019-9512)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodPing], most: 20_000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(int) { _ = a.fr.WritePing(false, [8]byte{}) })
			a.cut(calm)
		},
	},
	{
		name: "settings", does: "sends SETTINGS (CVE-2019-9515)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodSettings], most: 20_000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(int) { _ = a.fr.WriteSettings() })
			a.cut(calm)
		},
	},
	{
		name: "priority", does: "sends PRIORITY (CVE-2019-9513)", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodPriority], most: 120,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(i int) { _ = a.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1}) })
			a.cut(calm)
		},
	},
	{
		name: "window-update", does: "sends WINDOW_UPDATE that answers no DATA", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodWindowUpdate], most: 20_000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(int) { _ = a.fr.WriteWindowUpdate(0, 1) })
			a.cut(calm)
		},
	},
	{
		name: "unknown-frames", does: "sends frames of unknown type", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodUnknown], most: 20_000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(int) { _ = a.fr.WriteRawFrame(0xfa, 0, 0, nil) })
			a.cut(calm)
		},
	},
	{
		name: "goaway", does: "sends GOAWAY again and again", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodGoAway], most: 20_000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(int) { _ = a.fr.WriteGoAway(0, http2.ErrCodeNo, nil) })
			a.cut(calm)
		},
	},
	{
		name: "closed-streams", does: "sends RST_STREAM on a stream that is closed", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodClosed], most: 20_000,
		run: func(a *attacker) {
			a.h2().head(1, getHead("/"), true)
			a.flood(plenty, func(int) { _ = a.fr.WriteRSTStream(1, http2.ErrCodeCancel) })
			a.cut(calm)
		},
	},
	{
		name: "headers-on-reset", does: "sends HEADERS on a stream that was reset here", sees: "GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodClosed], most: 20_000,
		run: func(a *attacker) {
			a.h2().head(1, postHead("/hang", "content-length", "1"), false)
			_ = a.fr.WriteData(1, false, []byte("xx"))
			a.flood(plenty, func(int) { a.head(1, fieldBlock("x", "1"), true) })
			a.cut(calm)
		},
	},
	{
		name: "too-many-streams", does: "opens more streams than it may", sees: "RST_STREAM REFUSED_STREAM, then GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodReset], most: 2000,
		run: func(a *attacker) {
			a.h2()
			for i := range 101 {
				a.head(uint32(2*i+1), getHead("/hang"), true)
			}
			_ = a.w.Flush()
			a.replied(http2.ErrCodeRefusedStream, 1)
			a.flood(plenty, func(i int) { a.head(uint32(2*i+203), getHead("/hang"), true) })
			a.cut(calm)
		},
	},
	{
		name: "empty-names", does: "sends fields with names of no length (CVE-2019-9516)", sees: "RST_STREAM PROTOCOL_ERROR, then GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodReset], most: 2000,
		run: func(a *attacker) {
			bad := append(getHead("/"), bytes.Repeat([]byte{0x40, 0, 0}, 50)...)
			a.h2().flood(plenty, func(i int) { a.head(uint32(2*i+1), bad, true) })
			a.cut(calm)
			a.replied(http2.ErrCodeProtocol, 1)
		},
	},
	{
		name: "hpack-bomb", does: "refers to a large entry of the compression table a thousand times a request", sees: "431", id: telemetry.RefusedHeaderTooLarge, most: 300,
		run: func(a *attacker) {
			a.h2().head(1, append(getHead("/"), literal("x", strings.Repeat("v", 4000))...), true)
			a.replied("200", 1)
			bomb := append(getHead("/"), bytes.Repeat([]byte{0x80 | 62}, 1000)...)
			for i := range 100 {
				a.head(uint32(2*i+3), bomb, true)
			}
			_ = a.w.Flush()
			a.replied("431", 100)
		},
	},
	{
		name: "table-updates", does: "changes the size of the compression table thousands of times a request", sees: "the request is served", id: telemetry.DownstreamOpenedH2, most: 300,
		run: func(a *attacker) {
			updates := bytes.Repeat([]byte{0x20, 0x3f, 0xe1, 0x1f}, 3000) // to 0 and back to 4096
			a.h2()
			for i := range 100 {
				a.head(uint32(2*i+1), append(bytes.Clone(updates), getHead("/")...), true)
			}
			_ = a.w.Flush()
			a.replied("200", 100)
		},
	},
	{
		name: "header-bytes", does: "sends a header list over 64 KiB", sees: "431", id: telemetry.RefusedHeaderTooLarge, most: 100,
		run: func(a *attacker) {
			a.h2().blocks(1, getHead("/", "x", strings.Repeat("v", 70<<10)))
			a.replied("431", 1)
		},
	},
	{
		name: "header-fields", does: "sends more than 100 fields", sees: "431", id: telemetry.RefusedHeaderTooLarge, most: 100,
		run: func(a *attacker) {
			var many []string
			for range 101 {
				many = append(many, "x", "1")
			}
			a.h2().head(1, getHead("/", many...), true)
			_ = a.w.Flush()
			a.replied("431", 1)
		},
	},
	{
		name: "slow-reader", does: "asks for 100 large bodies with windows of 1 byte and takes them byte by byte", sees: "what it pays for; nothing more is read from the app than fits the windows", id: telemetry.DownstreamOpenedH2, heap: buffered, most: 2000,
		run: func(a *attacker) {
			a.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			for i := range 100 {
				a.head(uint32(2*i+1), getHead("/big"), true)
			}
			_ = a.w.Flush()
			a.replied("200", 100)
			for round := range 10 {
				for i := range 100 {
					_ = a.fr.WriteWindowUpdate(uint32(2*i+1), 1)
				}
				_ = a.w.Flush()
				if a.ended() {
					a.t.Fatalf("cut after %d rounds", round)
				}
			}
		},
	},
	{
		name: "stalled-reader", does: "asks for large bodies with windows of 0 and never opens them", sees: "RST_STREAM after stream_idle_timeout or --idle-timeout", id: telemetry.DownstreamOpenedH2, tune: quick, heap: buffered, most: 300,
		run: func(a *attacker) {
			a.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			for i := range 100 {
				a.head(uint32(2*i+1), getHead("/big"), true)
			}
			_ = a.w.Flush()
			a.until("the streams end", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				n := 0
				for _, k := range a.resets {
					n += k
				}
				return n == 100
			})
		},
	},
	{
		name: "slow-frame", does: "sends half a frame", sees: "GOAWAY ENHANCE_YOUR_CALM after the head time-out", id: telemetry.DownstreamCut[h2.SlowHead], tune: quick, most: 10,
		run: func(a *attacker) {
			a.h2()
			_, _ = a.w.Write([]byte{0, 0, 8, 6})
			_ = a.w.Flush()
			a.cut(calm)
		},
	},
	{
		name: "slow-block", does: "begins a header block and does not end it", sees: "GOAWAY ENHANCE_YOUR_CALM after the head time-out", id: telemetry.DownstreamCut[h2.SlowHead], tune: quick, most: 10,
		run: func(a *attacker) {
			_ = a.h2().fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: getHead("/")})
			_ = a.w.Flush()
			a.cut(calm)
		},
	},
	{
		name: "slow-preface", does: "sends half the preface of HTTP/2", sees: "the connection closes after the head time-out", id: telemetry.DownstreamCut[h2.SlowHead], tune: quick,
		run: func(a *attacker) {
			a.raw().write(http2.ClientPreface[:10])
			<-a.over
		},
	},
	{
		name: "no-settings", does: "sends the preface and no SETTINGS", sees: "GOAWAY ENHANCE_YOUR_CALM after the head time-out", id: telemetry.DownstreamCut[h2.SlowHead], tune: quick,
		run: func(a *attacker) {
			a.raw().write(http2.ClientPreface)
			<-a.over
		},
	},
	{
		name: "no-settings-ack", does: "does not acknowledge SETTINGS", sees: "GOAWAY SETTINGS_TIMEOUT after the head time-out", id: telemetry.DownstreamCut[h2.NoSettingsAck], tune: quick, most: 10,
		run: func(a *attacker) {
			a.fr = http2.NewFramer(a.w, a.nc)
			_, _ = a.w.WriteString(http2.ClientPreface)
			_ = a.fr.WriteSettings()
			_ = a.w.Flush()
			go a.read()
			a.cut(http2.ErrCodeSettingsTimeout)
		},
	},
	{
		name: "slow-body", does: "begins a request's body and does not go on", sees: "408 after stream_idle_timeout or --idle-timeout", id: telemetry.DownstreamOpenedH2, tune: quick, most: 10,
		run: func(a *attacker) {
			a.h2().head(1, postHead("/read"), false)
			_ = a.fr.WriteData(1, false, []byte("x"))
			_ = a.w.Flush()
			a.replied("408", 1)
		},
	},
	{
		name: "h1-slow-head", does: "HTTP/1.1: sends half a head", sees: "408 after the head time-out", id: telemetry.DownstreamCut[h2.SlowHead], tune: quick,
		run: func(a *attacker) {
			a.raw().write("GET / HTTP/1.1\r\nhost: a\r\nx: ")
			a.said("408")
		},
	},
	{
		name: "h1-slow-body", does: "HTTP/1.1: begins a body and does not go on", sees: "408 after stream_idle_timeout or --idle-timeout", id: telemetry.DownstreamOpenedH1, tune: quick,
		run: func(a *attacker) {
			a.raw().write("POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx")
			a.said("408")
		},
	},
	{
		name: "h1-endless-head", does: "HTTP/1.1: sends a head without end", sees: "431", id: telemetry.RefusedHeaderTooLarge,
		run: func(a *attacker) {
			a.raw().write("GET / HTTP/1.1\r\nhost: a\r\n")
			a.pour(plenty, "x: "+strings.Repeat("v", 4000)+"\r\n")
			a.said("431")
		},
	},
	{
		name: "h1-many-fields", does: "HTTP/1.1: sends more than 100 fields", sees: "431", id: telemetry.RefusedHeaderTooLarge,
		run: func(a *attacker) {
			a.raw().write("GET / HTTP/1.1\r\nhost: a\r\n")
			a.pour(plenty, "x: 1\r\n")
			a.said("431")
		},
	},
	{
		name: "h1-request-line", does: "HTTP/1.1: sends a request line without end", sees: "414", id: telemetry.RefusedTargetTooLong,
		run: func(a *attacker) {
			a.raw().write("GET /")
			a.pour(plenty, strings.Repeat("a", 4000))
			a.said("414")
		},
	},
	{
		name: "h1-chunk-extension", does: "HTTP/1.1: sends a chunk extension without end (CVE-2023-39326)", sees: "400", id: telemetry.DownstreamChunks,
		run: func(a *attacker) {
			a.raw().write("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;")
			a.pour(plenty, strings.Repeat("e", 4000))
			a.said("400")
		},
	},
	{
		name: "h1-tiny-chunks", does: "HTTP/1.1: sends chunks of a byte with long extensions", sees: "400", id: telemetry.DownstreamChunks,
		run: func(a *attacker) {
			a.raw().write("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
			a.pour(plenty, strings.Repeat("1;"+strings.Repeat("e", 60)+"\r\nx\r\n", 50))
			a.said("400")
		},
	},
	{
		name: "h1-endless-trailers", does: "HTTP/1.1: sends trailers without end", sees: "431, or a closed connection where the reply has begun", id: telemetry.RefusedHeaderTooLarge,
		run: func(a *attacker) {
			a.raw().write("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
			a.pour(plenty, "x: "+strings.Repeat("v", 4000)+"\r\n")
			<-a.over
		},
	},
	{
		name: "h1-pipelining", does: "HTTP/1.1: sends requests without reading the replies", sees: "nothing more is read from it; the connection is aborted after 30 s", id: telemetry.DownstreamOpenedH1,
		run: func(a *attacker) {
			one := strings.Repeat("GET /big HTTP/1.1\r\nhost: a\r\n\r\n", 100)
			a.until("it is made to wait", func() bool {
				reading := true
				a.on(func(*loop) { reading = a.down.engine == nil || a.down.engine.Reading() })
				if !reading {
					return true
				}
				_, err := io.WriteString(a.nc, one)
				return err != nil
			})
		},
	},
	{
		name: "h2-unread", does: "sends requests and window updates without reading the replies", sees: "nothing more is read from it; the connection is aborted after 30 s", id: telemetry.DownstreamOpenedH2, heap: buffered, most: 20_000,
		run: func(a *attacker) {
			a.fr = http2.NewFramer(a.nc, nil)
			a.write(http2.ClientPreface)
			_ = a.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			_ = a.fr.WriteSettingsAck()
			_ = a.fr.WriteWindowUpdate(0, 1<<30)
			for i := range 100 {
				a.head(uint32(2*i+1), getHead("/big"), true)
			}
			a.until("its output is full", func() bool { return a.stats().DataOut >= 16 }) // 256 KiB, of 100 MiB
		},
	},
}

// madeYouReset is a row of CVE-2025-8671: streams that the sidecar has to reset.
func madeYouReset(name, does string, head []byte, end bool, fault func(fr *http2.Framer, id uint32) error) attackRow {
	return attackRow{
		name: "made-you-reset-" + name, does: does + " (CVE-2025-8671)", sees: "RST_STREAM, then GOAWAY ENHANCE_YOUR_CALM", id: telemetry.DownstreamCut[h2.FloodReset], most: 2000,
		run: func(a *attacker) {
			a.h2().flood(plenty, func(i int) {
				a.head(uint32(2*i+1), head, end)
				_ = fault(a.fr, uint32(2*i+1))
			})
			a.cut(calm)
		},
	}
}

// continuations floods stream 1 with CONTINUATION frames.
func (a *attacker) continuations(p []byte) {
	a.t.Helper()
	_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: getHead("/")})
	a.flood(plenty, func(int) { _ = a.fr.WriteContinuation(1, false, p) })
}

// blocks sends a head in as many frames as it takes.
func (a *attacker) blocks(id uint32, p []byte) {
	first := min(len(p), 16<<10)
	_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p[:first], EndStream: true})
	for p = p[first:]; ; {
		n := min(len(p), 16<<10)
		_ = a.fr.WriteContinuation(id, n == len(p), p[:n])
		if p = p[n:]; len(p) == 0 {
			break
		}
	}
	_ = a.w.Flush()
}

// literal is a field that goes into the compression table.
func literal(name, value string) []byte {
	return appendText(appendText([]byte{0x40}, name), value)
}

// TestAttacks: each is ended or bounded, is counted, costs a bounded number of
// frames, bytes and goroutines, and a bystander on the same shard notices nothing.
func TestAttacks(t *testing.T) {
	for i := range attacks {
		row := &attacks[i]
		t.Run(row.name, func(t *testing.T) {
			f := newFort(t, row.tune)
			if err := f.ask("/"); err != nil {
				t.Fatal(err)
			}
			before, counted := liveHeap(), f.count(row.id)
			var a *attacker
			f.meanwhile(func() {
				a = f.attack()
				row.run(a)
				most := max(row.heap, heapGrowth)
				if grown := grownSince(before, most); grown > most {
					t.Errorf("the heap grew by %d bytes, want at most %d", grown, most)
				}
			})
			if n := f.count(row.id) - counted; n == 0 {
				t.Errorf("%s did not count it", telemetry.CounterName(row.id))
			}
			if n := a.stats().Frames; row.most > 0 && (n == 0 || n > row.most) {
				t.Errorf("%d frames were acted on, want at most %d", n, row.most)
			}
			_ = a.nc.Close()
			close(f.release)
			f.until("everything is given back", func() bool {
				conns := 0
				f.on(func(l *loop) { conns = len(l.conns) })
				return conns <= 1 && f.server.Active() == 0 // the bystander's
			})
		})
	}
}
