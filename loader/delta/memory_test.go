package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// endless is a safetensors file that is made as it is read: a header, and one
// tensor of rows that repeat a pattern; rows of changed differ.
type endless struct {
	header  []byte
	pattern []byte
	size    int64
	changed func(row int64) bool
}

func (e *endless) Size() int64 { return e.size }

func (e *endless) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < e.size {
		var m int
		if at := off - int64(len(e.header)); at < 0 {
			m = copy(p[n:], e.header[off:])
		} else {
			row, in := at/1024, at%1024
			m = copy(p[n:], e.pattern[row%61+in:][:1024-in])
			if in <= 5 && in+int64(m) > 5 && e.changed(row) {
				p[n+5-int(in)]++
			}
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// A diff holds hashes and bits, never the files: everything it allocates while it
// compares two files, and writes what differs, is a small part of them.
func TestDiffHoldsLittle(t *testing.T) {
	const rows = 256 << 10 // of 1 KiB
	text := fmt.Sprintf(`{"e":{"dtype":"U8","shape":[%d,1024],"data_offsets":[0,%d]}}`, rows, rows*1024)
	header := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	pattern := noise(1, 61+1024)
	file := func(changed func(int64) bool) *endless {
		return &endless{header, pattern, int64(len(header)) + rows*1024, changed}
	}
	base := file(func(int64) bool { return false })
	r := rand.New(rand.NewPCG(1, 1))
	hit := make(map[int64]bool)
	for range 2000 {
		hit[r.Int64N(rows)] = true
	}
	target := file(func(row int64) bool { return hit[row] })
	var first []byte
	for workers := 1; workers <= 4; workers += 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plan, err := Diff(t.Context(), base, target, Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		out := bytes.NewBuffer(make([]byte, 0, 4<<20))
		if _, err := plan.Write(t.Context(), out, Options{Workers: workers}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if plan.Report.Rows != len(hit) {
			t.Errorf("%d rows, want %d", plan.Report.Rows, len(hit))
		}
		took := int64(after.TotalAlloc - before.TotalAlloc)
		if most := base.Size() / 12; took > most {
			t.Errorf("%d workers: %d bytes allocated for files of %d, want at most %d", workers, took, base.Size(), most)
		}
		if first == nil {
			first = out.Bytes()
		} else if !bytes.Equal(first, out.Bytes()) {
			t.Errorf("with %d workers the delta is another", workers)
		}
	}
}
