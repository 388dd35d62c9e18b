package loader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// variant is one version of the seeded model.
type variant int

const (
	base      variant = iota
	dense             // pair D: whole and densely changed tensors
	scattered         // pair S: D and scattered rows
)

const (
	page       = 4096
	hidden     = 2048 // bytes a row of every matrix but the embedding
	embedWidth = 1024 // bytes a row of the embedding
	blocks     = 32
	scatter    = 4500 // changed rows of the embedding in pair S, at scale 1
)

// tensor is one array of the model, before it has bytes.
type tensor struct {
	name       string
	dtype      string
	rows, cols int64 // cols in elements
	width      int64 // bytes a row
	how        change
}

// change is what the new versions do to a tensor.
type change int

const (
	same  change = iota
	whole        // other bytes altogether
	every        // one byte in 64 differs: every page does, so it ships whole
	runs         // the same in runs of pages, about 3 in 5: it ships those
	rows         // pair S only: some rows differ
)

func (t tensor) size() int64 { return t.rows * t.width }

// changes are at scale 1 42 MB; each is followed by tensors that stay the same.
var changes = map[string]change{
	"embed.weight":       rows,
	"blocks.03.attn.q":   whole,
	"blocks.05.attn.k":   whole,
	"blocks.08.mlp.up":   whole,
	"blocks.11.mlp.down": runs,
	"blocks.17.mlp.up":   runs,
	"blocks.20.mlp.down": runs,
	"blocks.23.attn.v":   every,
	"blocks.27.attn.o":   runs,
}

// model lists the tensors: 1.30 GB of int8 in 194 tensors at scale 1. All sizes
// are whole pages, as the packer's alignment makes them.
func model(scale float64) (ts []tensor) {
	add := func(name, dtype string, rows, cols, width int64) {
		ts = append(ts, tensor{name, dtype, rows, cols, width, changes[name]})
	}
	int8s := func(name string, n float64, width int64) {
		step := page / width
		add(name, "I8", max(1, int64(n*scale)/step)*step, width, width)
	}
	int8s("embed.weight", 128_000, embedWidth)
	for i := range blocks {
		at := fmt.Sprintf("blocks.%02d.", i)
		for _, m := range []string{"q", "k", "v", "o"} {
			int8s(at+"attn."+m, hidden, hidden)
		}
		int8s(at+"mlp.up", 4816, hidden)
		int8s(at+"mlp.down", 4816, hidden)
	}
	add("norm.weight", "F32", 1, hidden, 4*hidden)
	return ts
}

// header returns the safetensors header, padded so that the data is on a page.
func header(ts []tensor) ([]byte, error) {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	head := make(map[string]entry, len(ts))
	at := int64(0)
	for _, t := range ts {
		head[t.name] = entry{t.dtype, []int64{t.rows, t.cols}, [2]int64{at, at + t.size()}}
		at += t.size()
	}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	pad := (page - (8+len(b))%page) % page
	b = append(b, bytes.Repeat([]byte{' '}, pad)...)
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...), nil
}

// write writes one version of the model.
func write(name string, scale float64, v variant) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = fill(w, scale, v)
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func fill(w io.Writer, scale float64, v variant) error {
	ts := model(scale)
	h, err := header(ts)
	if err != nil {
		return err
	}
	if _, err := w.Write(h); err != nil {
		return err
	}
	buf := make([]byte, 1<<20) // whole rows: every width divides it
	for i, t := range ts {
		r := random(uint64(i), t.how == whole && v != base)
		hit, pages := hits(t, scale, v), t.pages(uint64(i))
		for at := int64(0); at < t.size(); at += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), t.size()-at)]
			_, _ = r.Read(b) // never fails
			for j := 0; v != base && j < len(b); j += 64 {
				if t.how == every || t.how == runs && pages[(at+int64(j))/page] {
					b[j]++
				}
			}
			for row := at / t.width; len(hit) > 0 && row < (at+int64(len(b)))/t.width; row++ {
				if hit[row] {
					off := row*t.width - at
					for j := range t.width {
						b[off+j]++
					}
				}
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// random is tensor i's stream of bytes: the same in every run.
func random(i uint64, changed bool) *rand.ChaCha8 {
	var seed [32]byte
	copy(seed[:], "quadnine loader bench")
	binary.LittleEndian.PutUint64(seed[24:], i)
	if changed {
		seed[23] = 1
	}
	return rand.NewChaCha8(seed)
}

// pages says which pages of t, tensor i, the new versions change: runs of about
// 48 pages with about 32 between them at scale 1, where a fine-tuned tensor's
// changes lie together. nil when it is not changed so.
func (t tensor) pages(i uint64) []bool {
	if t.how != runs {
		return nil
	}
	n := t.size() / page
	unit := min(max(n/150, 1), 8)
	r := rand.New(rand.NewPCG(i, 60))
	out := make([]bool, n)
	for at := int64(0); at < n; {
		at += min(unit*(2+r.Int64N(5)), n/2)
		for end := min(at+unit*(3+r.Int64N(7)), n); at < end; at++ {
			out[at] = true
		}
	}
	return out
}

// changed returns how many bytes of t, tensor i, pair D ships.
func (t tensor) changed(i uint64) (n int64) {
	switch t.how {
	case whole, every:
		return t.size()
	case runs:
		for _, hit := range t.pages(i) {
			if hit {
				n += page
			}
		}
	}
	return n
}

// hits are the rows of t that a version changes; nil when there are none.
func hits(t tensor, scale float64, v variant) map[int64]bool {
	if t.how != rows || v != scattered {
		return nil
	}
	n := min(max(1, int(scatter*scale)), int(t.rows))
	r := rand.New(rand.NewPCG(4, 4500))
	hit := make(map[int64]bool, n)
	for len(hit) < n {
		hit[r.Int64N(t.rows)] = true
	}
	return hit
}

// modelSize returns the bytes of all tensors.
func modelSize(scale float64) (n int64) {
	for _, t := range model(scale) {
		n += t.size()
	}
	return n
}
