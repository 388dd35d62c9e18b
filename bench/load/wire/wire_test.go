package wire_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/bench/load/wire"
)

// Each Wake ends one Wait, though nobody reads the timer. (Were the second one
// lost, this test would hang until its time is over.)
func TestWakeAfterWake(t *testing.T) {
	p, err := wire.NewPoll()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := p.Wake(50 * time.Microsecond); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(-1, func(fd int, _, _ bool) error { t.Errorf("socket %d", fd); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// x/net's Framer reads what is written, and the other way round.
func TestFrames(t *testing.T) {
	b := wire.AppendSettings(nil, wire.Setting{ID: wire.InitialWindowSize, Value: 99})
	b = wire.AppendWindow(b, 3, 77)
	b = append(wire.AppendHeader(b, 2, wire.Data, wire.EndStream, 5), "ab"...)
	fr := http2.NewFramer(nil, bytes.NewReader(b))
	f, err := fr.ReadFrame()
	if s, ok := f.(*http2.SettingsFrame); err != nil || !ok || s.Setting(0) != (http2.Setting{ID: http2.SettingInitialWindowSize, Val: 99}) {
		t.Errorf("%v, %v", f, err)
	}
	f, err = fr.ReadFrame()
	if w, ok := f.(*http2.WindowUpdateFrame); err != nil || !ok || w.StreamID != 3 || w.Increment != 77 {
		t.Errorf("%v, %v", f, err)
	}
	f, err = fr.ReadFrame()
	if d, ok := f.(*http2.DataFrame); err != nil || !ok || d.StreamID != 5 || string(d.Data()) != "ab" || !d.StreamEnded() {
		t.Errorf("%v, %v", f, err)
	}

	var out bytes.Buffer
	fr = http2.NewFramer(&out, nil)
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: []byte("block"), EndHeaders: true, PadLength: 3, Priority: http2.PriorityParam{Weight: 9}}); err != nil {
		t.Fatal(err)
	}
	got, rest, ok := wire.Next(out.Bytes())
	if !ok || len(rest) != 0 || got.Stream != 7 || got.Type != wire.Headers || string(got.Bare()) != "block" {
		t.Errorf("%+v, %d bytes rest, %q", got, len(rest), got.Bare())
	}
	for n := range out.Len() {
		if _, rest, ok := wire.Next(out.Bytes()[:n]); ok || !slices.Equal(rest, out.Bytes()[:n]) {
			t.Fatalf("a frame out of %d of %d bytes", n, out.Len())
		}
	}
}

func TestPaddingThatDoesNotFit(t *testing.T) {
	for _, f := range []wire.Frame{
		{Type: wire.Data, Flags: wire.Padded},
		{Type: wire.Data, Flags: wire.Padded, Payload: []byte{5, 1}},
		{Type: wire.Headers, Flags: wire.Priority, Payload: []byte{1, 2}},
	} {
		if got := f.Bare(); got != nil {
			t.Errorf("%+v: %q", f, got)
		}
	}
}
