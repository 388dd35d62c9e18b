package patch

import (
	"bytes"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// frame makes a zstd patch with a dictionary, as options say.
func frame(t testing.TB, old, target []byte, o ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, append(o, zstd.WithEncoderDictRaw(0, old), zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(target, nil)
}

// TestZstdSizes: new versions smaller and larger than a block, a window, and the
// least window there is.
func TestZstdSizes(t *testing.T) {
	old, want := read(t, "v1.safetensors"), read(t, "v2.safetensors")
	for _, n := range []int{1, 100, 1023, 5000, len(want)} {
		for _, single := range []bool{true, false} {
			target := want[:n]
			p := frame(t, old, target, zstd.WithSingleSegment(single), zstd.WithWindowSize(8<<20))
			if n < 256 && !single {
				continue // such a frame does not say its size
			}
			k := makeTask(t, p, old, target, false)
			r, err := k.apply(t.Context(), helper("apply", memory, time.Minute))
			if err != nil {
				t.Errorf("%d bytes, single segment %t: %v", n, single, err)
				continue
			}
			k.check(t, old, r)
		}
	}
}

// TestZstdThatLies: a frame that makes more than it says, or more frames, is
// refused before it writes behind its own file.
func TestZstdThatLies(t *testing.T) {
	old, want := read(t, "v1.safetensors"), read(t, "v2.safetensors")
	p := frame(t, old, want, zstd.WithSingleSegment(true))
	more := append(bytes.Clone(p), frame(t, old, want, zstd.WithSingleSegment(true))...)
	less := bytes.Clone(p) // magic, descriptor, 2 bytes of the size less 256
	less[5], less[6] = 0, 1
	for name, b := range map[string][]byte{"two frames": more, "smaller than it is": less} {
		k := makeTask(t, b, old, want, false)
		if _, err := k.apply(t.Context(), helper("apply", memory, time.Minute)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzZstdHeader: a header is refused, or bounded.
func FuzzZstdHeader(f *testing.F) {
	f.Add(read(f, "v2.zst"))
	f.Add(read(f, "v2.bsdiff4"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		role, err := Detect(r)
		if err != nil {
			return
		}
		h, err := ParseHeader(role, r, int64(len(b)))
		if err != nil {
			return
		}
		if n := h.Need(1<<30, false); h.TargetSize < 1 || h.TargetSize > maxTarget || n.Disk < h.TargetSize || n.Memory < fixedMemory || n.Mapped < 0 {
			t.Errorf("%+v %+v", h, n)
		}
	})
}
