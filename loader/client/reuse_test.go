package client

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/wire"
)

const page = 4096

// Pieces put over one another show what an array of pages would.
func TestOverIsWhatPagesWouldBe(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		const pages = 40
		var want [pages]stretch
		var all []stretch
		for file := range uint64(1 + rnd.IntN(12)) {
			from := rnd.Int64N(pages)
			s := stretch{from, from + 1 + rnd.Int64N(pages-from), fileID{1, file}, rnd.Int64N(100)}
			all = over(all, s)
			for i := s.from; i < s.to; i++ {
				want[i] = s.part(i, i+1)
			}
		}
		var got [pages]stretch
		end := int64(0)
		for _, s := range all {
			if s.from < end || s.to <= s.from {
				t.Fatalf("%+v", all)
			}
			end = s.to
			for i := s.from; i < s.to; i++ {
				got[i] = s.part(i, i+1)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nwant %+v", got, want)
		}
	}
}

// offered maps files by pieces and windows, as an offer would.
func offered(t *testing.T, names []string, windows []wire.Window, pieces []wire.Piece, region int64) *version {
	t.Helper()
	o := &offer{head: &wire.Offer{Region: region}, windows: windows, pieces: pieces}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		o.files = append(o.files, f)
	}
	r, err := mmap.Reserve(region)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
	})
	if err := o.fill(r); err != nil {
		t.Fatal(err)
	}
	shown, err := o.shown()
	if err != nil {
		t.Fatal(err)
	}
	v := &version{region: r, windows: windows}
	v.info.Size = windows[len(windows)-1].To
	v.shows = v.sources(shown)
	return v
}

// Random versions over random files: the leaves that are taken from the version
// before are those that hashing everything gives.
func TestLeavesOfTheVersionBeforeAreTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	var names []string
	for i := range 3 {
		b := make([]byte, 64*page)
		for at := range b {
			b[at] = byte(rnd.Uint32())
		}
		name := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	random := func(base int64) *version {
		const size = 60*page + 100
		pieces := []wire.Piece{{At: 0, Len: 61 * page, File: 0, Kind: wire.Map, Off: base}}
		for range rnd.IntN(4) {
			at := rnd.Int64N(58)
			pieces = append(pieces, wire.Piece{At: at * page, Len: (1 + rnd.Int64N(3)) * page, File: 1, Kind: wire.Map, Off: rnd.Int64N(2) * page})
		}
		for at := rnd.Int64N(30); at < 58; at += 3 + rnd.Int64N(30) {
			under := pieces[1:]
			free := true
			for _, p := range under {
				free = free && (at*page >= p.At+p.Len || (at+2)*page <= p.At)
			}
			if free {
				pieces = append(pieces, wire.Piece{At: at * page, Len: 2 * page, File: 2, Kind: wire.Copy, Off: rnd.Int64N(2) * page})
			}
		}
		return offered(t, names, []wire.Window{{From: 0, To: 20*page + 8, At: 0}, {From: 20*page + 8, To: size, At: 20*page + 8}}, pieces, 61*page)
	}
	spared := int64(0)
	for range 200 {
		old, v := random(0), random(rnd.Int64N(2)*page)
		var err error
		if old.leaves, _, err = old.hash(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		got, read, err := v.hash(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		want, err := delta.LeavesOf(t.Context(), io.NewSectionReader(v, 0, v.info.Size), delta.Options{})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("other leaves; %v\n%+v\n%+v", err, old.shows, v.shows)
		}
		spared += v.info.Size - read
	}
	if spared == 0 {
		t.Error("everything was hashed")
	}
}
