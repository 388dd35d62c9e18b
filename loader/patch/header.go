package patch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/quadnine/quadnine/loader/delta"
)

// Sizes in bytes.
const (
	bsdiffHeader = 32
	maxTarget    = 1 << 46 // as in package delta

	// MaxZstd is the most that base and new version may have for a zstd patch:
	// zstd itself takes no larger file for --patch-from.
	MaxZstd = 1 << 31
)

// Header is what a patch says of itself, before any of it is decompressed.
type Header struct {
	Role       delta.Role // which of the two formats
	Size       int64      // of the patch, bytes
	TargetSize int64      // of the file that it makes, bytes

	control, diff int64 // bytes of bsdiff's first two blocks
}

var (
	bsdiffMagic = []byte("BSDIFF40")
	zstdMagic   = []byte{0x28, 0xb5, 0x2f, 0xfd} // RFC 8878, 3.1.1
)

// Detect tells a patch's format by its first bytes.
func Detect(r io.ReaderAt) (delta.Role, error) {
	b := make([]byte, len(bsdiffMagic))
	n, err := r.ReadAt(b, 0)
	switch {
	case bytes.Equal(b[:n], bsdiffMagic):
		return delta.RoleBSDiff4, nil
	case bytes.HasPrefix(b[:n], zstdMagic):
		return delta.RoleZstdPatch, nil
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	}
	return "", fmt.Errorf("begins with %q: is neither a bsdiff4 patch (BSDIFF40) nor a zstd one", b[:n])
}

// ParseHeader reads what a patch of size bytes says of itself.
func ParseHeader(role delta.Role, r io.ReaderAt, size int64) (Header, error) {
	h := Header{Role: role, Size: size}
	var err error
	switch role {
	case delta.RoleBSDiff4:
		err = h.bsdiff(r)
	case delta.RoleZstdPatch:
		err = h.zstd(r)
	default:
		err = fmt.Errorf("role %q is no patch", role)
	}
	if err == nil && (h.TargetSize < 1 || h.TargetSize > maxTarget) {
		err = fmt.Errorf("says that it makes %d bytes, want 1 to %d", h.TargetSize, int64(maxTarget))
	}
	return h, err
}

func (h *Header) bsdiff(r io.ReaderAt) error {
	var b [bsdiffHeader]byte
	if n, err := r.ReadAt(b[:], 0); n < len(b) {
		return cutShort(err, int64(n), bsdiffHeader)
	}
	if !bytes.HasPrefix(b[:], bsdiffMagic) {
		return fmt.Errorf("begins with %q, a bsdiff4 patch begins with %q", b[:8], bsdiffMagic)
	}
	h.control, h.diff, h.TargetSize = number(b[8:]), number(b[16:]), number(b[24:])
	room := h.Size - bsdiffHeader
	if h.control < 0 || h.control > room || h.diff < 0 || h.diff > room-h.control {
		return fmt.Errorf("its header says %d bytes of control block and %d of difference block, the file has %d behind the header", h.control, h.diff, room)
	}
	return nil
}

// number reads bsdiff's form of a whole number. Minus zero is zero.
func number(b []byte) int64 {
	var n int64
	for i := 7; i >= 0; i-- {
		v := b[i]
		if i == 7 {
			v &= 0x7f
		}
		n = n<<8 | int64(v)
	}
	if b[7]&0x80 != 0 {
		return -n
	}
	return n
}

func (h *Header) zstd(r io.ReaderAt) error {
	b := make([]byte, zstd.HeaderMaxSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var z zstd.Header
	if err := z.Decode(b[:n]); err != nil {
		return fmt.Errorf("zstd header: %w", err)
	}
	switch {
	case z.Skippable:
		return errors.New("begins with a skippable frame, zstd --patch-from writes one frame only")
	case z.DictionaryID != 0:
		return fmt.Errorf("wants the dictionary %d, a patch has none but its base", z.DictionaryID)
	case !z.HasFCS:
		return errors.New("does not say how many bytes it makes: let zstd --patch-from read the new version from a file, not from a pipe")
	case z.FrameContentSize > MaxZstd:
		return fmt.Errorf("makes %d bytes, zstd patches go up to %d: use bsdiff4 or a .qd delta", z.FrameContentSize, int64(MaxZstd))
	}
	h.TargetSize = int64(z.FrameContentSize)
	return nil
}

// cutShort names the end of a file that is too short.
func cutShort(err error, at, want int64) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends at byte %d, want at least %d: it was cut off", at, want)
	}
	return err
}
