package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const page = 4096

func sample() (*Offer, []Window, []Piece) {
	windows := []Window{{0, 5000, 0}, {5000, 9000, 2 * page}}
	pieces := []Piece{{0, 2 * page, 1, Map, page}, {2 * page, 4000, 1, Map, 0}, {page, page, 0, Copy, page}, {3 * page, page, 0, Map, 0}}
	o := &Offer{Version: 7, Size: 9000, Region: 4 * page, Root: [32]byte{1}, SHA256: [32]byte{2}, Files: 2, Windows: 2, Pieces: len(pieces), Sealed: true}
	return o, windows, pieces
}

func body(t *testing.T, frame []byte, want Type) []byte {
	t.Helper()
	h, err := ParseHeader(frame, MaxBody)
	if err != nil || h.Type != want || h.Len != len(frame)-HeaderSize {
		t.Fatalf("%+v, %v; want %v", h, err, want)
	}
	return frame[HeaderSize:]
}

func TestFramesSurviveTheWay(t *testing.T) {
	check := func(got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	o, windows, pieces := sample()
	{
		want := Hello{"score", true}
		got, err := ParseHello(body(t, want.Append(nil), TypeHello))
		check(got, err, want)
	}
	{
		want := Welcome{page, time.Second, 300 * time.Second}
		got, err := ParseWelcome(body(t, want.Append(nil), TypeWelcome))
		check(got, err, want)
	}
	{
		got, err := ParseOffer(body(t, o.Append(nil), TypeOffer))
		check(got, err, o)
	}
	{
		got, err := ParseWindows(nil, body(t, AppendWindows(nil, windows), TypeWindows))
		check(got, err, windows)
	}
	{
		got, err := ParsePieces(nil, body(t, AppendPieces(nil, pieces), TypePieces))
		check(got, err, pieces)
	}
	{
		want := Switch{3, 4, 1 << 31}
		got, err := ParseSwitch(body(t, want.Append(nil), TypeSwitch))
		check(got, err, want)
	}
	{
		want := Release{3, time.Minute}
		got, err := ParseRelease(body(t, want.Append(nil), TypeRelease))
		check(got, err, want)
	}
	n, reason, err := ParseFailed(body(t, AppendFailed(nil, 9, strings.Repeat("x", 600)+"\n"), TypeFailed))
	if n != 9 || len(reason) != maxReason || err != nil {
		t.Errorf("%d %q %v", n, reason, err)
	}
	if err := o.Check(windows, pieces, page); err != nil {
		t.Error(err)
	}
}

// TestOfferBytes pins the layout that docs/shared.md describes.
func TestOfferBytes(t *testing.T) {
	o, _, pieces := sample()
	b := o.Append(nil)
	if len(b) != HeaderSize+104 || b[0] != 104 || b[4] != 17 || b[8] != 7 || b[8+24] != 1 || b[8+56] != 2 || b[8+88] != 2 || b[8+92] != 2 || b[8+96] != 4 || b[8+100] != 1 {
		t.Errorf("% x", b)
	}
	b = AppendPieces(nil, pieces[:1])
	if len(b) != HeaderSize+32 || b[4] != 20 || b[8+8+1] != 0x20 || b[8+16] != 1 || b[8+20] != 1 || b[8+24+1] != 0x10 {
		t.Errorf("% x", b)
	}
}

func TestOddOffersAreRefused(t *testing.T) {
	for name, change := range map[string]func(o *Offer, w []Window, p []Piece){
		"hole":             func(_ *Offer, w []Window, _ []Piece) { w[1].From++ },
		"overlap":          func(_ *Offer, w []Window, _ []Piece) { w[1].From-- },
		"too short":        func(o *Offer, _ []Window, _ []Piece) { o.Size++ },
		"window outside":   func(_ *Offer, w []Window, _ []Piece) { w[1].At = 4*page - 100 },
		"piece outside":    func(_ *Offer, _ []Window, p []Piece) { p[3].Len++ },
		"piece off page":   func(_ *Offer, _ []Window, p []Piece) { p[1].At++ },
		"file off page":    func(_ *Offer, _ []Window, p []Piece) { p[1].Off = 1 },
		"no such file":     func(_ *Offer, _ []Window, p []Piece) { p[0].File = 2 },
		"no such kind":     func(_ *Offer, _ []Window, p []Piece) { p[0].Kind = 3 },
		"copies overlap":   func(_ *Offer, _ []Window, p []Piece) { p[3] = Piece{page, page, 0, Copy, page} },
		"empty piece":      func(_ *Offer, _ []Window, p []Piece) { p[0].Len = 0 },
		"region off page":  func(o *Offer, _ []Window, _ []Piece) { o.Region++ },
		"a piece too many": func(o *Offer, _ []Window, _ []Piece) { o.Pieces-- },
	} {
		t.Run(name, func(t *testing.T) {
			o, w, p := sample()
			change(o, w, p)
			if err := o.Check(w, p, page); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// pair returns a connection's two ends.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire") //nolint:usetesting // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Descriptors belong to their frames, however the bytes are cut.
func TestDescriptorsComeWithTheirFrames(t *testing.T) {
	a, b := pair(t)
	dir := t.TempDir()
	open := func(text string) int {
		name := filepath.Join(dir, text)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return int(f.Fd())
	}
	failed := make(chan error, 1)
	go func() {
		_, err := b.Write(Switch{Active: 1}.Append(nil))
		err = errors.Join(err, SendFiles(b, []int{open("one"), open("two")}))
		_, e := b.Write(Switch{Active: 2}.Append(nil))
		err = errors.Join(err, e, SendFiles(b, []int{open("three")}))
		_, e = b.Write(AppendPieces(nil, make([]Piece, perFrame+1)))
		failed <- errors.Join(err, e, b.Close())
	}()
	c := NewConn(a)
	var got []string
	for {
		f, err := c.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Type.String())
		for _, x := range f.Files {
			text, err := io.ReadAll(x)
			if err != nil {
				t.Error(err)
			}
			got = append(got, string(text))
			x.Close()
		}
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if want := "SWITCH FILES one two SWITCH FILES three PIECES PIECES"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzAsk: what a client sends is an error or makes sense; nothing panics.
func FuzzAsk(f *testing.F) {
	f.Add(Hello{"score", true}.Append(nil))
	f.Add(AppendNumber(AppendFailed(nil, 3, "why"), TypeReady, 7))
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := make([]byte, HeaderSize+MaxAsk)
		r := bytes.NewReader(b)
		for {
			typ, body, err := ReadAsk(r, buf)
			if err != nil {
				return
			}
			if typ == TypeHello {
				h, err := ParseHello(body)
				if err == nil && !bytes.Equal(h.Append(nil)[HeaderSize:], body) {
					t.Errorf("% x is read as %+v", body, h)
				}
				continue
			}
			if n, err := ParseNumber(typ, body); err == nil && !bytes.Equal(AppendNumber(nil, typ, n)[HeaderSize:], body) {
				t.Errorf("% x is read as %d", body, n)
			}
			_, reason, err := ParseFailed(body)
			if err == nil && strings.ContainsAny(reason, "\n\x00") {
				t.Errorf("a reason of %q", reason)
			}
		}
	})
}

// FuzzOffer: an offer that is checked can be mapped without a look back.
func FuzzOffer(f *testing.F) {
	o, w, p := sample()
	f.Add(o.Append(nil)[HeaderSize:], AppendWindows(nil, w)[HeaderSize:], AppendPieces(nil, p)[HeaderSize:])
	f.Fuzz(func(t *testing.T, head, windows, pieces []byte) {
		o, err := ParseOffer(head)
		if err != nil {
			return
		}
		w, err := ParseWindows(nil, windows)
		if err != nil {
			return
		}
		p, err := ParsePieces(nil, pieces)
		if err != nil || o.Check(w, p, page) != nil {
			return
		}
		at := int64(0)
		for _, w := range w {
			if w.From != at || w.At < 0 || w.At+w.To-w.From > o.Region {
				t.Errorf("%+v", w)
			}
			at = w.To
		}
		for _, p := range p {
			if p.At < 0 || p.At+p.Len > o.Region || p.At%page != 0 || p.Off < 0 || p.Off%page != 0 || int(p.File) >= o.Files {
				t.Errorf("%+v", p)
			}
		}
		if at != o.Size {
			t.Errorf("windows end at %d of %d", at, o.Size)
		}
	})
}
