package patch

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// bits writes bits, the first one highest.
type bits struct {
	b []byte
	n int
}

func (w *bits) put(v uint64, n int) {
	for i := n - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[len(w.b)-1] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
}

// bzip compresses b in the bzip2 format, badly: it exists because the standard
// library only decompresses, and hostile patches have to be made up.
func bzip(b []byte) []byte {
	w := &bits{b: []byte("BZh9"), n: 32}
	sum := uint32(0)
	for len(b) > 0 {
		n := min(len(b), 1<<16)
		crc := bzipCRC(b[:n])
		sum = sum<<1 | sum>>31
		sum ^= crc
		bzipBlock(w, b[:n], crc)
		b = b[n:]
	}
	w.put(0x177245385090, 48)
	w.put(uint64(sum), 32)
	return w.b
}

func bzipCRC(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v) << 24
		for range 8 {
			top := c >> 31
			c <<= 1
			if top != 0 {
				c ^= 0x04c11db7
			}
		}
	}
	return ^c
}

func bzipBlock(w *bits, b []byte, crc uint32) {
	last, origin := rotate(runs(b))
	used := [256]bool{}
	for _, v := range last {
		used[v] = true
	}
	var order []byte
	for v := range 256 {
		if used[v] {
			order = append(order, byte(v))
		}
	}
	end := uint64(len(order) + 1)
	w.put(0x314159265359, 48)
	w.put(uint64(crc), 32)
	w.put(0, 1)
	w.put(uint64(origin), 24)
	bitmap(w, used)
	symbols := append(front(last, order), int(end))
	tables, selectors := 2, (len(symbols)+49)/50
	w.put(uint64(tables), 3)
	w.put(uint64(selectors), 15)
	for range selectors {
		w.put(0, 1)
	}
	lengths, codes := complete(int(end) + 1)
	for range tables {
		w.put(uint64(lengths[0]), 5)
		at := lengths[0]
		for _, l := range lengths {
			for ; at < l; at++ {
				w.put(0b10, 2)
			}
			for ; at > l; at-- {
				w.put(0b11, 2)
			}
			w.put(0, 1)
		}
	}
	for _, s := range symbols {
		w.put(uint64(codes[s]), lengths[s])
	}
}

// runs is bzip2's first step: four equal bytes are followed by how many more there
// are.
func runs(b []byte) (out []byte) {
	for i := 0; i < len(b); {
		n := 1
		for n < 255 && i+n < len(b) && b[i+n] == b[i] {
			n++
		}
		out = append(out, bytes.Repeat(b[i:i+1], min(n, 4))...)
		if n >= 4 {
			out = append(out, byte(n-4))
		}
		i += n
	}
	return out
}

// rotate returns the last column of the sorted rotations of b, and where b is.
func rotate(b []byte) (last []byte, origin int) {
	n := len(b)
	order, rank, next := make([]int, n), make([]int, n), make([]int, n)
	for i := range b {
		order[i], rank[i] = i, int(b[i])
	}
	for k := 1; ; k *= 2 {
		key := func(i int) int64 { return int64(rank[i])<<32 | int64(rank[(i+k)%n]) }
		slices.SortStableFunc(order, func(x, y int) int { return int(min(max(key(x)-key(y), -1), 1)) })
		tie := false
		for i, at := range order {
			next[at] = i
			if i > 0 && key(at) == key(order[i-1]) {
				next[at], tie = next[order[i-1]], true
			}
		}
		rank, next = next, rank
		if k >= n || !tie {
			break
		}
	}
	for i, at := range order {
		last = append(last, b[(at+n-1)%n])
		if at == 0 {
			origin = i
		}
	}
	return last, origin
}

func bitmap(w *bits, used [256]bool) {
	for i := range 16 {
		w.put(bit(slices.Contains(used[16*i:16*i+16], true)), 1)
	}
	for i := range 16 {
		if part := used[16*i : 16*i+16]; slices.Contains(part, true) {
			for _, u := range part {
				w.put(bit(u), 1)
			}
		}
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// front moves to the front, and writes runs of zeros in bijective base 2.
func front(last, order []byte) (out []int) {
	order = slices.Clone(order)
	zeros := 0
	flush := func() {
		for ; zeros > 0; zeros = (zeros - 1) / 2 {
			out = append(out, (zeros-1)%2)
		}
	}
	for _, v := range last {
		i := slices.Index(order, v)
		if i == 0 {
			zeros++
			continue
		}
		flush()
		out = append(out, i+1)
		copy(order[1:i+1], order[:i])
		order[0] = v
	}
	flush()
	return out
}

// complete returns n canonical code words that use up all of the code space.
func complete(n int) (lengths, codes []int) {
	k := 1
	for 1<<k < n {
		k++
	}
	short := 1<<k - n // of length k-1
	lengths, codes = make([]int, n), make([]int, n)
	for i := range n {
		lengths[i], codes[i] = k, i+short
		if i < short {
			lengths[i], codes[i] = k-1, i
		}
	}
	return lengths, codes
}

// build makes a bsdiff4 patch of a control block's numbers, and two blocks.
func build(size int64, control []int64, diff, extra []byte) []byte {
	var c []byte
	for _, n := range control {
		c = append(c, encode(n)...)
	}
	return assemble(size, c, diff, extra)
}

func assemble(size int64, control, diff, extra []byte) []byte {
	c, d := bzip(control), bzip(diff)
	out := append([]byte("BSDIFF40"), encode(int64(len(c)))...)
	out = append(append(out, encode(int64(len(d)))...), encode(size)...)
	return slices.Concat(out, c, d, bzip(extra))
}

func encode(n int64) []byte {
	if n < 0 {
		return binary.LittleEndian.AppendUint64(nil, uint64(-n)|1<<63)
	}
	return binary.LittleEndian.AppendUint64(nil, uint64(n))
}

func TestBzip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 5, 100, 1000, 70000} {
		for _, values := range []int{1, 2, 256} {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(r.IntN(values))
			}
			got, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(bzip(b))))
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%d bytes of %d values: %v", n, values, err)
			}
		}
	}
}
