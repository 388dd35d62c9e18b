package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// hostileRow is what an app may do to the proxy in front of it. The rows are also
// docs/limits.md's table.
type hostileRow struct {
	name   string
	does   string // instead of answering
	sees   string // what becomes of it
	status int    // what its caller gets; 0: a reply that breaks off
	id     telemetry.CounterID
	h1     bool
	unread bool // its caller reads nothing before the app is cut off: it would make room for ever
	answer func(h *hostile, id uint32)
}

var hostiles = []hostileRow{
	{
		name: "ping", does: "sends PING without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodPing],
		answer: func(h *hostile, _ uint32) { h.flood(func() error { return h.fr.WritePing(false, [8]byte{}) }) },
	},
	{
		name: "settings", does: "sends SETTINGS without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodSettings],
		answer: func(h *hostile, _ uint32) { h.flood(func() error { return h.fr.WriteSettings() }) },
	},
	{
		name: "window-update", does: "sends WINDOW_UPDATE without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodWindowUpdate],
		answer: func(h *hostile, _ uint32) { h.flood(func() error { return h.fr.WriteWindowUpdate(0, 1) }) },
	},
	{
		name: "unknown-frames", does: "sends frames of unknown type without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodUnknown],
		answer: func(h *hostile, _ uint32) { h.flood(func() error { return h.fr.WriteRawFrame(0xfa, 0, 0, nil) }) },
	},
	{
		name: "empty-data", does: "sends DATA without payload and without end", sees: cutOff, id: telemetry.UpstreamCut[h2.FloodEmpty],
		answer: func(h *hostile, id uint32) {
			h.head(id, false, ":status", "200")
			h.flood(func() error { return h.fr.WriteData(id, false, nil) })
		},
	},
	{
		name: "interim", does: "sends 1xx responses without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodInterim],
		answer: func(h *hostile, id uint32) {
			h.flood(func() error { h.head(id, false, ":status", "103"); return h.w.Flush() })
		},
	},
	{
		name: "continuation", does: "sends a header block without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.FloodContinuation],
		answer: func(h *hostile, id uint32) {
			_ = h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldBlock(":status", "200")})
			p := bytes.Repeat([]byte{0x88}, 16<<10)
			h.flood(func() error { return h.fr.WriteContinuation(id, false, p) })
		},
	},
	{
		name: "hpack-bomb", does: "refers to a large entry of the compression table a thousand times", sees: "RST_STREAM; its caller gets 502", status: 502, id: telemetry.UpstreamStreamsMalformed,
		answer: func(h *hostile, id uint32) {
			p := append(fieldBlock(":status", "200"), literal("x", strings.Repeat("v", 4000))...)
			h.block(id, append(p, bytes.Repeat([]byte{0x80 | 62}, 1000)...))
		},
	},
	{
		name: "many-fields", does: "answers with more than 100 fields", sees: "RST_STREAM; its caller gets 502", status: 502, id: telemetry.UpstreamStreamsMalformed,
		answer: func(h *hostile, id uint32) {
			h.block(id, append(fieldBlock(":status", "200"), bytes.Repeat(fieldBlock("x", "1"), 101)...))
		},
	},
	{
		name: "beyond-length", does: "sends more body than content-length says", sees: "RST_STREAM; its caller sees a reply that breaks off", id: telemetry.UpstreamStreamsMalformed,
		answer: func(h *hostile, id uint32) {
			h.head(id, false, ":status", "200", "content-length", "1")
			_ = h.fr.WriteData(id, false, []byte("xx"))
			_ = h.w.Flush()
		},
	},
	{
		name: "beyond-window", does: "sends more than the window allows, and goes on when its stream is reset", sees: "RST_STREAM, then the connection ends; its caller sees a reply that breaks off", id: telemetry.UpstreamCut[h2.FloodClosed], unread: true,
		answer: func(h *hostile, id uint32) {
			h.head(id, false, ":status", "200")
			h.flood(func() error { return h.fr.WriteData(id, false, mebibyte[:16<<10]) })
		},
	},
	{
		name: "resets", does: "resets every stream", sees: "its callers get 502; an app that resets is unwell, and its connection stays", status: 502, id: telemetry.UpstreamStreamsReset,
		answer: func(h *hostile, id uint32) { _ = h.fr.WriteRSTStream(id, http2.ErrCodeInternal); _ = h.w.Flush() },
	},
	{
		name: "goaway", does: "ends each connection with GOAWAY before it answers", sees: "the request goes to a new connection a bounded number of times; then its caller gets 503", status: 503, id: telemetry.UpstreamConnects,
		answer: func(h *hostile, _ uint32) { _ = h.fr.WriteGoAway(0, http2.ErrCodeNo, nil); _ = h.w.Flush() },
	},
	{
		name: "push", does: "sends PUSH_PROMISE", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.NoFlood],
		answer: func(h *hostile, id uint32) {
			_ = h.fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: getHead("/"), EndHeaders: true})
			_ = h.w.Flush()
		},
	},
	{
		name: "h1-interim", does: "HTTP/1.1: sends 1xx responses without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.NoFlood], h1: true,
		answer: func(h *hostile, _ uint32) { h.pour("HTTP/1.1 103 Early Hints\r\n\r\n") },
	},
	{
		name: "h1-endless-head", does: "HTTP/1.1: sends a head without end", sees: cutOff, status: 502, id: telemetry.UpstreamCut[h2.NoFlood], h1: true,
		answer: func(h *hostile, _ uint32) {
			h.write("HTTP/1.1 200 OK\r\n")
			h.pour("x: " + strings.Repeat("v", 4000) + "\r\n")
		},
	},
	{
		name: "h1-tiny-chunks", does: "HTTP/1.1: sends chunks that are mostly framing", sees: "the connection ends; its caller sees a reply that breaks off", id: telemetry.UpstreamCut[h2.NoFlood], h1: true,
		answer: func(h *hostile, _ uint32) {
			h.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
			h.pour("1;" + strings.Repeat("e", 60) + "\r\nx\r\n")
		},
	},
	{
		name: "h1-beyond-length", does: "HTTP/1.1: sends more body than content-length says", sees: "its caller gets the reply without the rest; the connection ends", status: 200, id: telemetry.UpstreamConnects, h1: true,
		answer: func(h *hostile, _ uint32) {
			h.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
			h.pour("HTTP/1.1 200 OK\r\n")
		},
	},
}

const cutOff = "the connection ends; callers on it get 502"

// hostile is a connection of the app's side.
type hostile struct{ *attacker }

// flood repeats send until the proxy ends the connection.
func (h *hostile) flood(send func() error) {
	for taken := true; taken; {
		taken = send() == nil && h.w.Flush() == nil
	}
}

func (h *hostile) pour(text string) {
	for taken := true; taken; {
		taken = h.write(text)
	}
}

func (h *hostile) head(id uint32, end bool, fields ...string) {
	_ = h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldBlock(fields...), EndHeaders: true, EndStream: end})
}

func (h *hostile) block(id uint32, p []byte) {
	_ = h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p, EndHeaders: true})
	_ = h.w.Flush()
}

// hostileApp takes connections and answers each request as row says.
func (f *fort) hostileApp(row *hostileRow) string {
	ln := f.listen()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go f.serveHostile(nc, row)
		}
	}()
	return ln.Addr().String()
}

func (f *fort) serveHostile(nc net.Conn, row *hostileRow) {
	defer func() { _ = nc.Close() }()
	h := &hostile{newAttacker(f, nc)}
	if row.h1 {
		if _, err := http.ReadRequest(h.r); err == nil {
			row.answer(h, 0)
		}
		_, _ = io.Copy(io.Discard, h.r)
		return
	}
	if _, err := io.ReadFull(h.r, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	h.fr = http2.NewFramer(h.w, h.r)
	h.fr.AllowIllegalWrites = true
	_ = h.fr.WriteSettings()
	_ = h.fr.WriteSettingsAck()
	for h.w.Flush() == nil {
		fr, err := h.fr.ReadFrame()
		if err != nil {
			return
		}
		if fr, ok := fr.(*http2.HeadersFrame); ok {
			row.answer(h, fr.StreamID)
		}
	}
}

// TestHostileApps: what an app does to its connections harms its own exchanges
// only.
func TestHostileApps(t *testing.T) {
	for i := range hostiles {
		row := &hostiles[i]
		t.Run(row.name, func(t *testing.T) {
			f := &fort{t: t, reg: telemetry.NewRegistry(), release: make(chan struct{})}
			bad := cluster("bad", f.hostileApp(row))
			if row.h1 {
				bad.Protocol = snapshot.H1
			}
			in, other := listener("main", "127.0.0.1:0", "app"), listener("other", "127.0.0.1:0", "bad")
			for _, l := range []*snapshot.Listener{in, other} {
				route := l.Inline.Hosts[0].Routes[0].Forward
				route.HasIdle, route.Idle = true, 20e9
			}
			f.start(snapshotOf([]*snapshot.Listener{in, other}, cluster("app", f.serve(f.app())), bad))
			if err := f.ask("/"); err != nil {
				t.Fatal(err)
			}
			before := liveHeap()
			f.meanwhile(func() {
				for range 3 {
					if status, err := f.askOther(row); err != nil || status != row.status {
						t.Fatalf("its caller got %d, %v, want %d", status, err, row.status)
					}
				}
				if grown := grownSince(before, 2*heapGrowth); grown > 2*heapGrowth { // both ends and their callers are in this process
					t.Errorf("the heap grew by %d bytes, want at most %d", grown, 2*heapGrowth)
				}
			})
			// Counted when the connection is closed, which follows.
			f.until(telemetry.CounterName(row.id)+" counts it", func() bool { return f.count(row.id) > 0 })
			f.until("its exchanges are over", func() bool { return f.server.Active() == 0 })
		})
	}
}

// askOther asks row's app. The status is 0 when the reply broke off.
func (f *fort) askOther(row *hostileRow) (status int, err error) {
	cuts := f.count(row.id)
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprintf("http://%s/", f.server.Addrs("other")[0]), nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if row.unread {
		f.until("the app is cut off", func() bool { return f.count(row.id) > cuts })
	}
	if _, err = io.Copy(io.Discard, resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, nil
}
