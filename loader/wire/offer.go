package wire

import "encoding/binary"

// Bounds of an offer.
const (
	maxFiles   = 1 << 16
	maxWindows = 1 << 20
	maxPieces  = 1 << 20
	windowSize = 24 // bytes on the wire
	pieceSize  = 32
)

// Offer describes a version to be mapped. Its files, windows and pieces follow in
// frames of their own, as many as it says.
type Offer struct {
	Version uint64
	Size    int64 // of the version, bytes
	Region  int64 // of the address space to reserve, bytes, whole pages
	Root    [32]byte
	SHA256  [32]byte // of the version's bytes; zeros unless Hello asked for it
	Files   int
	Windows int
	Pieces  int
	Sealed  bool // the files are sealed copies in memory, not the store's
}

const offerSealed = 1

// Window says that the version's bytes [From, To) are at byte At of the region.
// Windows are in order and cover the version without gap or overlap.
type Window struct{ From, To, At int64 }

// Kind is how a piece comes to be in the region.
type Kind uint32

// The kinds.
const (
	Map  Kind = 1 // map the file's pages; later ones lie over earlier ones
	Copy Kind = 2 // few pages, over all that is mapped: map them likewise, or copy them there
)

// Piece says that Len bytes of file number File from byte Off on are shown at
// byte At of the region. At and Off are multiples of the page size; what is left
// of the last page is not the version's. Pieces of kind Copy ascend and do not
// overlap one another.
type Piece struct {
	At, Len int64
	File    uint32
	Kind    Kind
	Off     int64
}

// Append appends the frame.
func (o *Offer) Append(b []byte) []byte {
	return appendFrame(b, TypeOffer, func(b []byte) []byte {
		le := binary.LittleEndian
		b = le.AppendUint64(b, o.Version)
		b = le.AppendUint64(b, uint64(o.Size))
		b = le.AppendUint64(b, uint64(o.Region))
		b = append(b, o.Root[:]...)
		b = append(b, o.SHA256[:]...)
		b = le.AppendUint32(b, uint32(o.Files))
		b = le.AppendUint32(b, uint32(o.Windows))
		b = le.AppendUint32(b, uint32(o.Pieces))
		flags := uint32(0)
		if o.Sealed {
			flags |= offerSealed
		}
		return le.AppendUint32(b, flags)
	})
}

// ParseOffer reads an Offer's body.
func ParseOffer(b []byte) (*Offer, error) {
	r := reader{t: TypeOffer, b: b}
	o := &Offer{Version: r.u64(), Size: r.size(), Region: r.size()}
	o.Root, o.SHA256 = [32]byte(r.take(32)), [32]byte(r.take(32))
	files, windows, pieces, flags := r.u32(), r.u32(), r.u32(), r.u32()
	if err := r.end(); err != nil {
		return nil, err
	}
	switch {
	case o.Version == 0 || o.Size == 0 || o.Region == 0:
		return nil, malformed("OFFER: version %d of %d bytes in a region of %d: want no zeros", o.Version, o.Size, o.Region)
	case files == 0 || files > maxFiles || windows == 0 || windows > maxWindows || pieces == 0 || pieces > maxPieces:
		return nil, malformed("OFFER: %d files, %d windows, %d pieces: want some, and at most %d, %d, %d", files, windows, pieces, maxFiles, maxWindows, maxPieces)
	case flags&^offerSealed != 0:
		return nil, malformed("OFFER: flags %#x are unknown", flags&^offerSealed)
	}
	o.Files, o.Windows, o.Pieces, o.Sealed = int(files), int(windows), int(pieces), flags&offerSealed != 0
	return o, nil
}

// AppendFiles appends a Files frame for n descriptors, which go with it.
func AppendFiles(b []byte, n int) []byte {
	return appendFrame(b, TypeFiles, func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, uint32(n)) })
}

// ParseFiles reads the number of descriptors that came with a Files frame.
func ParseFiles(b []byte) (int, error) {
	r := reader{t: TypeFiles, b: b}
	n := r.u32()
	if err := r.end(); err != nil {
		return 0, err
	}
	if n == 0 || n > MaxFiles {
		return 0, malformed("FILES: %d descriptors, want 1 to %d", n, MaxFiles)
	}
	return int(n), nil
}

const perFrame = 1 << 14 // windows or pieces: half a megabyte at most

// AppendWindows appends Windows frames.
func AppendWindows(b []byte, all []Window) []byte {
	for len(all) > 0 {
		n := min(len(all), perFrame)
		b = appendFrame(b, TypeWindows, func(b []byte) []byte {
			for _, w := range all[:n] {
				for _, v := range []int64{w.From, w.To, w.At} {
					b = binary.LittleEndian.AppendUint64(b, uint64(v))
				}
			}
			return b
		})
		all = all[n:]
	}
	return b
}

// ParseWindows reads a Windows' body and appends what it has to all.
func ParseWindows(all []Window, b []byte) ([]Window, error) {
	r := reader{t: TypeWindows, b: b}
	if len(b) == 0 || len(b)%windowSize != 0 {
		return nil, malformed("WINDOWS: %d bytes, want a multiple of %d", len(b), windowSize)
	}
	for len(r.b) > 0 && r.err == nil {
		all = append(all, Window{r.size(), r.size(), r.size()})
	}
	return all, r.end()
}

// AppendPieces appends Pieces frames.
func AppendPieces(b []byte, all []Piece) []byte {
	le := binary.LittleEndian
	for len(all) > 0 {
		n := min(len(all), perFrame)
		b = appendFrame(b, TypePieces, func(b []byte) []byte {
			for _, p := range all[:n] {
				b = le.AppendUint64(b, uint64(p.At))
				b = le.AppendUint64(b, uint64(p.Len))
				b = le.AppendUint32(b, p.File)
				b = le.AppendUint32(b, uint32(p.Kind))
				b = le.AppendUint64(b, uint64(p.Off))
			}
			return b
		})
		all = all[n:]
	}
	return b
}

// ParsePieces reads a Pieces' body and appends what it has to all.
func ParsePieces(all []Piece, b []byte) ([]Piece, error) {
	r := reader{t: TypePieces, b: b}
	if len(b) == 0 || len(b)%pieceSize != 0 {
		return nil, malformed("PIECES: %d bytes, want a multiple of %d", len(b), pieceSize)
	}
	for len(r.b) > 0 && r.err == nil {
		all = append(all, Piece{r.size(), r.size(), r.u32(), Kind(r.u32()), r.size()})
	}
	return all, r.end()
}

// Check says whether windows and pieces are what o promised: complete, on whole
// pages of size page, within the region, and the windows within what is mapped.
func (o *Offer) Check(windows []Window, pieces []Piece, page int64) error {
	if len(windows) != o.Windows || len(pieces) != o.Pieces {
		return malformed("version %d: %d windows and %d pieces came, OFFER says %d and %d", o.Version, len(windows), len(pieces), o.Windows, o.Pieces)
	}
	if page <= 0 || o.Region%page != 0 {
		return malformed("version %d: a region of %d bytes is not whole pages of %d", o.Version, o.Region, page)
	}
	at := int64(0)
	for i, w := range windows {
		if w.From != at || w.To <= w.From || w.At > o.Region-(w.To-w.From) {
			return malformed("version %d: window %d is [%d, %d) at byte %d: want one that begins at %d, within a region of %d bytes", o.Version, i, w.From, w.To, w.At, at, o.Region)
		}
		at = w.To
	}
	if at != o.Size {
		return malformed("version %d: the windows end at byte %d of %d", o.Version, at, o.Size)
	}
	copied := int64(0) // the end of the last copy
	for i, p := range pieces {
		switch {
		case p.Kind != Map && p.Kind != Copy:
			return malformed("version %d: piece %d is of kind %d", o.Version, i, p.Kind)
		case p.At%page != 0 || p.Off%page != 0:
			return malformed("version %d: piece %d: byte %d of the region, %d of the file: want multiples of %d", o.Version, i, p.At, p.Off, page)
		case p.Len <= 0 || p.At > o.Region || p.Len > o.Region-p.At:
			return malformed("version %d: piece %d: [%d, +%d) is not within a region of %d bytes", o.Version, i, p.At, p.Len, o.Region)
		case int64(p.File) >= int64(o.Files):
			return malformed("version %d: piece %d: file %d of %d", o.Version, i, p.File, o.Files)
		case p.Kind == Copy && p.At < copied:
			return malformed("version %d: piece %d: a copy at byte %d, after one that ends at %d", o.Version, i, p.At, copied)
		case p.Kind == Copy:
			copied = p.At + p.Len
		}
	}
	return nil
}
