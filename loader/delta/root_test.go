package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"lukechampine.com/blake3"
)

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// plainRoot is the definition, word by word.
func plainRoot(b []byte) (r Root) {
	h := blake3.New(32, nil)
	_, _ = h.Write([]byte("quadnine.root.v1\x00"))
	_ = binary.Write(h, binary.LittleEndian, uint64(len(b)))
	for len(b) > 0 {
		leaf := blake3.Sum256(b[:min(16384, len(b))])
		_, _ = h.Write(leaf[:])
		b = b[min(16384, len(b)):]
	}
	h.Sum(r[:0])
	return r
}

// Sizes at which blocks, chunks and BLAKE3's own trees begin and end.
var edgeSizes = []int{0, 1, 1023, 1024, 1025, 4096, BlockSize - 1, BlockSize, BlockSize + 1, 5*BlockSize + 77, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + BlockSize + 5}

func TestRootIsAsDefined(t *testing.T) {
	for _, n := range edgeSizes {
		b := noise(uint64(n), n)
		want := plainRoot(b)
		if got := RootOfBytes(b); got != want {
			t.Errorf("%d bytes: RootOfBytes %v, want %v", n, got, want)
		}
		if got, err := RootOf(bytes.NewReader(b), int64(n)); err != nil || got != want {
			t.Errorf("%d bytes: RootOf %v, %v, want %v", n, got, err, want)
		}
		for _, workers := range []int{0, 1, 3, 64} {
			l, err := LeavesOf(t.Context(), bytes.NewReader(b), Options{Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := RootFromLeaves(int64(n), l); err != nil || got != want {
				t.Errorf("%d bytes, %d workers: %v, %v, want %v", n, workers, got, err, want)
			}
		}
		var h Hasher
		for rest, step := b, 1; len(rest) > 0; step = step*3 + 1 {
			m, _ := h.Write(rest[:min(step, len(rest))])
			rest = rest[m:]
		}
		for range 2 { // asking changes nothing
			if got := h.Root(); got != want || h.Size() != int64(n) {
				t.Errorf("%d bytes: Hasher %v after %d bytes, want %v", n, got, h.Size(), want)
			}
		}
	}
}

// The root of "abc", so that a change of the definition is noticed.
func TestRootIsStable(t *testing.T) {
	const want = "b3:24eb36cad2e6e1ed7cc4aa7802fb43568d560695a67cb3ca832e005a1081ad9d"
	if got := RootOfBytes([]byte("abc")).String(); got != want {
		t.Fatalf("root of abc: %s, want %s", got, want)
	}
}

func TestRootText(t *testing.T) {
	want := RootOfBytes([]byte("x"))
	var got Root
	if err := got.UnmarshalText([]byte(want.String())); err != nil || got != want {
		t.Fatalf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "b3:", want.String()[3:], want.String() + "0", "b3:" + strings.Repeat("z", 64), strings.ToUpper(want.String()[:3]) + want.String()[3:], "b3:" + strings.Repeat("A", 64)} {
		if _, err := ParseRoot(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestRootFromLeavesCounts(t *testing.T) {
	if _, err := RootFromLeaves(BlockSize+1, make(Leaves, RootSize)); err == nil {
		t.Fatal("one leaf was taken for two blocks")
	}
}

// cut is a file that is shorter than it was.
type cut struct{ Sized }

func (c cut) Size() int64 { return c.Sized.Size() + 1 }

func TestLeavesOfCutFile(t *testing.T) {
	for _, workers := range []int{1, 4} {
		_, err := LeavesOf(t.Context(), cut{bytes.NewReader(noise(1, 3*chunkSize))}, Options{Workers: workers})
		if _, ok := errors.AsType[*FormatError](err); !ok || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%d workers: %v, want that it was cut off", workers, err)
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestLeavesOfReadError(t *testing.T) {
	want := errors.New("disk on fire")
	if _, err := LeavesOf(t.Context(), Section(failing{want}, 9*chunkSize), Options{Workers: 3}); !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func TestLeavesOfEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	s := bytes.NewReader(noise(1, 8*chunkSize))
	_, err := LeavesOf(ctx, s, Options{Progress: func(int64) { cancel(why) }})
	if !errors.Is(err, why) {
		t.Fatalf("%v, want %v", err, why)
	}
}

func BenchmarkRoot(b *testing.B) {
	data := noise(1, 32<<20)
	b.Run("bytes", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			RootOfBytes(data)
		}
	})
	b.Run("reader", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			_, _ = RootOf(bytes.NewReader(data), int64(len(data)))
		}
	})
	b.Run("bare", func(b *testing.B) { // the hash alone, over the whole
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			_ = blake3.Sum256(data)
		}
	})
	b.Run("copied", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			var h Hasher
			_, _ = io.Copy(&h, bytes.NewReader(data))
		}
	})
}
