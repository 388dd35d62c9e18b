package patch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// unzstd writes what the patch makes of base to target. All three are mapped: the
// base is the decoder's dictionary where it lies, and the new version its own
// window, so that the window of zstd --patch-from, as large as the file, takes no
// memory of its own but pages that the kernel can write back and take away.
func unzstd(target, base, p *os.File, baseSize int64, h Header) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		f, ok := p.(interface{ Addr() uintptr }) // documented at debug.SetPanicOnFault
		if !ok {
			panic(p) //nolint:forbidigo // a defect of the decoder: it must not pass for a version that was made
		}
		err = fmt.Errorf("a file that is mapped was cut short, or the disk has no room left (fault at %#x)", f.Addr())
	}()
	if baseSize > MaxZstd {
		return fmt.Errorf("the base has %d bytes, zstd patches go up to %d: use bsdiff4 or a .qd delta", baseSize, int64(MaxZstd))
	}
	if err := reserve(target, h.TargetSize); err != nil {
		return err
	}
	var maps [3][]byte
	defer func() {
		for _, m := range maps {
			if m != nil {
				err = errors.Join(err, unix.Munmap(m))
			}
		}
	}()
	for i, f := range []struct {
		f    *os.File
		size int64
		prot int
	}{{target, h.TargetSize, unix.PROT_READ | unix.PROT_WRITE}, {base, baseSize, unix.PROT_READ}, {p, h.Size, unix.PROT_READ}} {
		if f.size > math.MaxInt {
			return fmt.Errorf("%d bytes cannot be mapped on this machine", f.size)
		}
		if maps[i], err = unix.Mmap(int(f.f.Fd()), 0, int(f.size), f.prot, unix.MAP_SHARED); err != nil {
			return fmt.Errorf("map %d bytes: %w", f.size, err)
		}
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		// The slice bounds what is made. The other two bound the window that a frame
		// may declare, of which nothing is allocated.
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(1<<32), zstd.WithDecoderMaxMemory(1<<32),
		zstd.WithDecoderDictRaw(0, maps[1]))
	if err != nil {
		return err
	}
	defer dec.Close()
	out, err := dec.DecodeAll(maps[2], maps[0][:0])
	if err != nil {
		return fmt.Errorf("zstd: %w: it is damaged, or was made from another base", err)
	}
	if int64(len(out)) != h.TargetSize || &out[0] != &maps[0][0] {
		return fmt.Errorf("zstd: makes %d bytes, its header says %d", len(out), h.TargetSize)
	}
	return nil
}
