package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"lukechampine.com/blake3"
)

const (
	magic         = "QDELTA1\x00"
	formatVersion = 1
	formatRows    = 2 // a file with ROWS; others stay readable for programs that know none
	headerSize    = 4096
	entrySize     = 32
	extentSize    = 24
	rowsSize      = 16       // what precedes the row numbers
	rowSize       = 4        // of a row number
	maxSize       = 1 << 50  // of any file or offset: sums of a few cannot overflow
	maxTable      = 64 << 20 // 2.7 million extents; a version that maps well has at most 2,048
	checksumOff   = 200
	checksumEnd   = checksumOff + RootSize
	rowsOff       = checksumEnd
	rowsEnd       = rowsOff + 4
)

// Header is the first page of a .qd file.
type Header struct {
	BaseSize      int64 `json:"base_bytes"`
	BaseRoot      Root  `json:"base_root"`
	TargetSize    int64 `json:"target_bytes"`
	TargetRoot    Root  `json:"target_root"`
	PayloadOffset int64 `json:"payload_offset"` // in the file; a multiple of PageSize
	PayloadSize   int64 `json:"payload_bytes"`
	PayloadRoot   Root  `json:"payload_root"`
	TableSize     int64 `json:"table_bytes"`
	TableRoot     Root  `json:"table_root"`
	Entries       int   `json:"entries"`
	Extents       int   `json:"extents"` // of all entries
	Rows          int   `json:"rows"`    // of all entries
}

// Size returns how long the file is.
func (h *Header) Size() int64 { return h.PayloadOffset + h.PayloadSize }

// version returns the format version that the file needs.
func (h *Header) version() uint32 {
	if h.Rows > 0 {
		return formatRows
	}
	return formatVersion
}

func alignUp(n int64) int64 { return (n + PageSize - 1) &^ (PageSize - 1) }

func (h *Header) append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, magic...)
	b = le.AppendUint32(b, h.version())
	b = le.AppendUint32(b, BlockSize)
	b = le.AppendUint64(b, uint64(h.BaseSize))
	b = append(b, h.BaseRoot[:]...)
	b = le.AppendUint64(b, uint64(h.TargetSize))
	b = append(b, h.TargetRoot[:]...)
	b = le.AppendUint64(b, uint64(h.PayloadOffset))
	b = le.AppendUint64(b, uint64(h.PayloadSize))
	b = append(b, h.PayloadRoot[:]...)
	b = le.AppendUint64(b, headerSize)
	b = le.AppendUint64(b, uint64(h.TableSize))
	b = append(b, h.TableRoot[:]...)
	b = le.AppendUint32(b, uint32(h.Entries))
	b = le.AppendUint32(b, uint32(h.Extents))
	b = append(b, make([]byte, start+headerSize-len(b))...)
	le.PutUint32(b[start+rowsOff:], uint32(h.Rows))
	sum := blake3.Sum256(b[start:])
	copy(b[start+checksumOff:], sum[:])
	return b
}

// ParseHeader reads and checks the header of a .qd file of size bytes.
func ParseHeader(r io.ReaderAt, size int64) (*Header, error) {
	b := make([]byte, headerSize)
	if n := min(size, headerSize); n < headerSize {
		b = b[:max(n, 0)]
	}
	if err := readFull(r, b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(magic)) {
		return nil, malformed("byte 0: begins with %q, want %q: this is no .qd file", b[:min(len(b), len(magic))], magic)
	}
	if len(b) < headerSize {
		return nil, malformed("header ends at byte %d, want %d: the file was cut off or is still being written", len(b), headerSize)
	}
	version := le.Uint32(b[8:])
	if version != formatVersion && version != formatRows {
		return nil, malformed("byte 8: format version %d, this program reads %d and %d: make the delta with a program of this release", version, formatVersion, formatRows)
	}
	sum := Root(b[checksumOff:checksumEnd])
	clear(b[checksumOff:checksumEnd])
	if got := Root(blake3.Sum256(b)); got != sum {
		return nil, malformed("byte %d: header has checksum %s, it says %s: it was damaged on the way; copy it again", checksumOff, got.Short(), sum.Short())
	}
	if v := le.Uint32(b[12:]); v != BlockSize {
		return nil, malformed("byte 12: block size %d, want %d", v, BlockSize)
	}
	if v := le.Uint64(b[144:]); v != headerSize {
		return nil, malformed("byte 144: table offset %d, want %d", v, headerSize)
	}
	rows := le.Uint32(b[rowsOff:])
	if (version == formatRows) != (rows > 0) {
		return nil, malformed("byte %d: %d rows in format version %d: %d has none, %d at least one", rowsOff, rows, version, formatVersion, formatRows)
	}
	if i := bytes.IndexFunc(b[rowsEnd:], func(r rune) bool { return r != 0 }); i >= 0 {
		return nil, malformed("byte %d: want zeros to the header's end", rowsEnd+i)
	}
	sizes := make(map[int]int64, 5)
	for _, off := range []int{16, 56, 96, 104, 152} {
		v := le.Uint64(b[off:])
		if v > maxSize {
			return nil, malformed("byte %d: %d is more than the %d bytes that any size or offset may be", off, v, int64(maxSize))
		}
		sizes[off] = int64(v)
	}
	h := &Header{
		BaseSize: sizes[16], BaseRoot: Root(b[24:56]), TargetSize: sizes[56], TargetRoot: Root(b[64:96]),
		PayloadOffset: sizes[96], PayloadSize: sizes[104], PayloadRoot: Root(b[112:144]),
		TableSize: sizes[152], TableRoot: Root(b[160:192]),
	}
	if err := h.counts(le.Uint32(b[192:]), le.Uint32(b[196:]), rows, size); err != nil {
		return nil, err
	}
	return h, nil
}

// counts checks what the header says about the rest of the file.
func (h *Header) counts(entries, extents, rows uint32, size int64) error {
	end := headerSize + h.TableSize
	switch {
	case h.TableSize > maxTable:
		return malformed("byte 152: table of %d bytes, at most %d is allowed: ship the version as a full file", h.TableSize, maxTable)
	case end > size:
		return malformed("table ends at byte %d, header says %d: the file was cut off or is still being written", size, end)
	case h.PayloadOffset != alignUp(end):
		return malformed("byte 96: payload offset %d, want %d: the first page after the table", h.PayloadOffset, alignUp(end))
	case h.Size() > size:
		return malformed("payload ends at byte %d, header says %d: the file was cut off or is still being written", size, h.Size())
	case h.Size() < size:
		return malformed("byte %d: the payload ends here, the file %d bytes later: trailing data is not allowed", h.Size(), size-h.Size())
	case uint64(entries)*entrySize+uint64(extents)*extentSize+uint64(rows)*rowSize > uint64(h.TableSize):
		return malformed("byte 192: %d entries, %d extents and %d rows do not fit into a table of %d bytes", entries, extents, rows, h.TableSize)
	}
	h.Entries, h.Extents, h.Rows = int(entries), int(extents), int(rows)
	return nil
}

// Delta is a parsed .qd file: how to make a target from a base.
type Delta struct {
	Header  Header
	Entries []Entry // by target offset, covering the target

	payload Sized
}

// Payload returns the payload section, for reading.
func (d *Delta) Payload() Sized { return d.payload }

// Parse reads a .qd file of size bytes: header and table, with all checks; the
// payload is not read (see VerifyPayload). The Delta keeps r.
func Parse(r io.ReaderAt, size int64) (*Delta, error) {
	h, err := ParseHeader(r, size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, h.PayloadOffset-headerSize) // table and padding
	if err := readFull(r, b[:min(h.PayloadOffset, size)-headerSize], headerSize); err != nil {
		return nil, err
	}
	table := b[:h.TableSize]
	if got := RootOfBytes(table); got != h.TableRoot {
		return nil, &MismatchError{What: "table", Who: "the header", Got: got, Want: h.TableRoot}
	}
	for i, c := range b[h.TableSize:] {
		if c != 0 {
			return nil, malformed("byte %d: want zeros between table and payload", headerSize+h.TableSize+int64(i))
		}
	}
	entries, err := parseTable(table, h)
	if err != nil {
		return nil, err
	}
	if err := checkEntries(entries, h); err != nil {
		return nil, err
	}
	return &Delta{Header: *h, Entries: entries, payload: io.NewSectionReader(r, h.PayloadOffset, h.PayloadSize)}, nil
}

// Encode writes a .qd file with these entries and this payload. Of h the sizes
// and roots of base and target are used; the rest is computed and returned. What
// Parse would refuse is refused.
func Encode(ctx context.Context, w io.Writer, h Header, entries []Entry, payload Sized, o Options) (Header, error) {
	table := encodeTable(entries)
	h.TableSize, h.TableRoot = int64(len(table)), RootOfBytes(table)
	h.PayloadOffset, h.PayloadSize = alignUp(headerSize+h.TableSize), payload.Size()
	h.Entries, h.Extents, h.Rows = len(entries), 0, 0
	for i := range entries {
		h.Extents += len(entries[i].Extents)
		h.Rows += len(entries[i].Rows)
	}
	if h.TableSize > maxTable {
		return h, fmt.Errorf("the table would take %d bytes, at most %d is allowed: ship the version as a full file", h.TableSize, maxTable)
	}
	if err := checkEntries(entries, &h); err != nil {
		return h, err
	}
	l, err := LeavesOf(ctx, payload, o)
	if err != nil {
		return h, fmt.Errorf("payload: %w", err)
	}
	h.PayloadRoot = rootOf(h.PayloadSize, l)
	b := h.append(make([]byte, 0, h.PayloadOffset))
	b = append(b, table...)
	b = append(b, make([]byte, h.PayloadOffset-int64(len(b)))...)
	if _, err := w.Write(b); err != nil {
		return h, err
	}
	var again Hasher
	if err := copyTo(ctx, io.MultiWriter(w, &again), payload, o); err != nil {
		return h, err
	}
	if again.Root() != h.PayloadRoot {
		return h, errChanged
	}
	return h, nil
}

// copyTo writes all of s to w.
func copyTo(ctx context.Context, w io.Writer, s Sized, o Options) error {
	buf := make([]byte, 1<<20)
	for n := int64(0); n < s.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), s.Size()-n)]
		if err := readFull(s, b, n); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		n += int64(len(b))
		o.done(int64(len(b)))
	}
	return nil
}
