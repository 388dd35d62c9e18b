package loader

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// rowsFile is a safetensors file of an embedding of 256-byte rows and a matrix of
// 2 KiB rows, whose data begins at byte 4096, or a few bytes later.
func rowsFile(embed, up []byte, shift int) []byte {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	h, err := json.Marshal(map[string]entry{
		"embed": {"I8", []int{len(embed) / 256, 256}, [2]int{0, len(embed)}},
		"up":    {"I8", []int{len(up) / 2048, 2048}, [2]int{len(embed), len(embed) + len(up)}},
	})
	if err != nil {
		panic(err)
	}
	h = append(h, bytes.Repeat([]byte{' '}, 4096-8-len(h)+shift)...)
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...)
	return append(append(b, embed...), up...)
}

// rowVersions are versions that change pages of both tensors first, and then rows
// over rows over these pages; kinds says what each delta must be made of.
func rowVersions(shift int) [][]byte {
	r := rand.New(rand.NewPCG(5, 5))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	embed, up := random(8000*256), random(400*2048)
	out := [][]byte{rowsFile(embed, up, shift)}
	next := func(change func(embed, up []byte)) {
		embed, up = bytes.Clone(embed), bytes.Clone(up)
		change(embed, up)
		out = append(out, rowsFile(embed, up, shift))
	}
	next(func(embed, up []byte) { // pages
		for i := 100 * 4096; i < 200*4096; i += 64 {
			embed[i]++
		}
		for i := 20 * 4096; i < 60*4096; i += 64 {
			up[i]++
		}
	})
	for range 3 { // rows, some of them again, some over the pages
		next(func(embed, up []byte) {
			for range 40 {
				embed[r.IntN(500)*16*256+r.IntN(256)]++
			}
			for range 3 {
				up[r.IntN(400)*2048]++
			}
		})
	}
	return out
}

// packFile makes version n's drop.
func (r *rig) packFile(n int, versions [][]byte) {
	r.t.Helper()
	dir := filepath.Join(r.drops, fmt.Sprint("v", n))
	must(r.t, os.MkdirAll(dir, 0o755))
	root, err := os.OpenRoot(dir)
	must(r.t, err)
	defer root.Close()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: uint64(n), SchemaVersion: 1, Canary: new(delta.Canary)}}
	p.Manifest.Canary.PromoteAfter = 1
	target := bytes.NewReader(versions[n-1])
	if n == 1 {
		_, err = p.Full(r.t.Context(), root, target)
	} else {
		var report *delta.Report
		_, report, err = p.Delta(r.t.Context(), root, uint64(n-1), bytes.NewReader(versions[n-2]), target, false)
		if err == nil && (report.Rows > 0) != (n > 2) {
			r.t.Errorf("v%d ships %d rows: %+v", n, report.Rows, report.Changes)
		}
	}
	must(r.t, err)
}

// shows checks that the active version's bytes are want.
func (r *rig) shows(n uint64, want []byte) *Info {
	r.t.Helper()
	lease, err := r.l.Acquire("score", math.MaxUint64)
	must(r.t, err)
	defer lease.Release()
	if lease.Info().Number != n {
		r.t.Fatalf("v%d is active, want v%d: %+v", lease.Info().Number, n, r.l.Quarantined())
	}
	must(r.t, lease.With(func(w View) error {
		if b, ok := w.Contiguous(); ok && !bytes.Equal(b, want) {
			return errors.New("the contiguous view differs")
		}
		at := want[4096:]
		if len(want)%4096 != 0 {
			at = want[len(want)-8000*256-400*2048:]
		}
		for _, t := range w.Tensors() {
			_, b, ok := w.Tensor(t.Name)
			if !ok || !bytes.Equal(b, at[:t.Len]) {
				return fmt.Errorf("tensor %s differs", t.Name)
			}
			at = at[t.Len:]
		}
		return nil
	}))
	return lease.Info()
}

// Rows over rows over pages: each version shows its own bytes, aligned or not,
// also after a restart, and only pages with rows are private memory.
func TestRowsOverRowsOverPages(t *testing.T) {
	for _, shift := range []int{0, 24} {
		t.Run(fmt.Sprint("shift ", shift), func(t *testing.T) {
			versions := rowVersions(shift)
			r := newRig(t, nil)
			defer func() { r.close() }()
			for n := 1; n <= len(versions); n++ {
				r.packFile(n, versions)
				r.report(fmt.Sprint("v", n))
				r.await(EventActive, uint64(n))
				info := r.shows(uint64(n), versions[n-1])
				most := int64(n-2) * 43 * 2 * 4096 // a row may lie in two pages when its tensor is not aligned
				if n > 2 && (info.Copied == 0 || info.Copied > most+8192 || info.Copies == 0) || n == 1 && info.Copied != 0 {
					t.Errorf("v%d: %d bytes of private memory in %d pieces, want at most %d", n, info.Copied, info.Copies, most)
				}
			}
			last := len(versions)
			r.await(EventDurable, uint64(last))
			r.close()
			r.open()
			r.shows(uint64(last), versions[last-1])
		})
	}
}

// A version that would take more private memory than is allowed is refused with
// figures, and changes nothing.
func TestPrivateMemoryIsBounded(t *testing.T) {
	versions := rowVersions(0)
	for _, limit := range []int64{8 * 4096, -1} {
		r := newRig(t, func(o *Options) { o.CopyLimit = limit })
		for n := 1; n <= 2; n++ {
			r.packFile(n, versions)
			r.report(fmt.Sprint("v", n))
			r.await(EventActive, uint64(n))
		}
		r.packFile(3, versions)
		r.report("v3")
		if limit < 0 {
			r.await(EventActive, 3)
		} else {
			ev := r.await(EventQuarantined, 3)
			if !strings.Contains(ev.Reason, ErrCopies.Error()) || !strings.Contains(ev.Reason, "score@3 takes ") || !strings.Contains(ev.Reason, "at most 32768 are allowed") {
				t.Errorf("refused for %q", ev.Reason)
			}
			r.shows(2, versions[1])
		}
		r.close()
	}
}

// The patches that rows are read in many at once, and come back whatever their
// order.
func TestReadingAhead(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 9))
	a, bytesA := randomBlob(t, rnd, 700_000)
	b, bytesB := randomBlob(t, rnd, 300_000)
	var src ahead
	for i := range 3000 {
		from, all := a, bytesA
		if i%3 == 0 {
			from, all = b, bytesB
		}
		off := int64(i * 90)
		if i%50 == 0 {
			off = rnd.Int64N(from.size)
		}
		n := min(1+rnd.Int64N(2000), from.size-off)
		got, err := src.bytes(from, off, n)
		if err != nil || !bytes.Equal(got, all[off:off+n]) {
			t.Fatalf("read %d: %d bytes from %d: %v", i, n, off, err)
		}
	}
	if _, err := src.bytes(a, a.size-5, 6); err == nil {
		t.Error("read past the end")
	}
	if got, err := src.bytes(a, 10, 20); err != nil || !bytes.Equal(got, bytesA[10:30]) {
		t.Errorf("after a failure: %v", err)
	}
}
