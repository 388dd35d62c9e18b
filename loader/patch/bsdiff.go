package patch

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	stepSize = 256 << 10 // what is put together at once: stays in a core's cache

	// idleTriples is how many control triples in a row may make no byte. bsdiff
	// writes at most one; without a bound a few kilobytes of control block could
	// keep a child busy for hours.
	idleTriples = 64
)

// bsdiff writes what the patch p makes of base to w. Its memory does not depend on
// any size: the three blocks are read side by side, each at its own place of p.
func bsdiff(ctx context.Context, w io.Writer, base sized, p io.ReaderAt, h Header) error {
	a := bsdiffer{
		w: w, base: base, left: h.TargetSize,
		control: block(p, bsdiffHeader, h.control),
		diff:    block(p, bsdiffHeader+h.control, h.diff),
		extra:   block(p, bsdiffHeader+h.control+h.diff, h.Size-bsdiffHeader-h.control-h.diff),
		buf:     make([]byte, stepSize), old: make([]byte, stepSize),
	}
	for idle := 0; a.left > 0; {
		before := a.left
		if err := a.triple(ctx); err != nil {
			return fmt.Errorf("at byte %d of the new version: %w", h.TargetSize-a.left, err)
		}
		if idle++; a.left < before {
			idle = 0
		}
		if idle > idleTriples {
			return fmt.Errorf("control block: %d triples in a row make nothing", idle)
		}
	}
	return nil
}

func block(p io.ReaderAt, off, n int64) io.Reader {
	return bzip2.NewReader(bufio.NewReaderSize(io.NewSectionReader(p, off, n), 64<<10))
}

type bsdiffer struct {
	w                    io.Writer
	base                 sized
	control, diff, extra io.Reader
	at                   int64 // place in the base
	left                 int64 // bytes of the new version still to be made
	buf, old             []byte
}

// triple does what the next control triple says.
func (a *bsdiffer) triple(ctx context.Context) error {
	var b [24]byte
	if _, err := io.ReadFull(a.control, b[:]); err != nil {
		return fmt.Errorf("control block: %w", unexpected(err))
	}
	add, copied, seek := number(b[:]), number(b[8:]), number(b[16:])
	if add < 0 || copied < 0 || add > a.left || copied > a.left-add {
		return fmt.Errorf("control block: add %d and copy %d bytes, %d are missing of the new version", add, copied, a.left)
	}
	for n := add; n > 0; {
		m, err := a.add(ctx, min(n, stepSize))
		if err != nil {
			return err
		}
		n -= m
	}
	for n := copied; n > 0; {
		step := a.buf[:min(n, stepSize)]
		if _, err := io.ReadFull(a.extra, step); err != nil {
			return fmt.Errorf("extra block: %w", unexpected(err))
		}
		if err := a.put(ctx, step); err != nil {
			return err
		}
		n -= int64(len(step))
	}
	if seek > 0 && a.at > math.MaxInt64-seek || seek < 0 && a.at < math.MinInt64-seek {
		return fmt.Errorf("control block: seek by %d from byte %d of the base", seek, a.at)
	}
	a.at += seek
	return nil
}

// add makes n bytes of the difference block and the base.
func (a *bsdiffer) add(ctx context.Context, n int64) (int64, error) {
	step := a.buf[:n]
	if _, err := io.ReadFull(a.diff, step); err != nil {
		return 0, fmt.Errorf("difference block: %w", unexpected(err))
	}
	if a.at > math.MaxInt64-n {
		return 0, fmt.Errorf("add %d bytes from byte %d of the base", n, a.at)
	}
	if from, to := max(a.at, 0), min(a.at+n, a.base.Size()); from < to {
		old := a.old[:to-from]
		if m, err := a.base.ReadAt(old, from); m < len(old) {
			return 0, fmt.Errorf("base: %w", cutShort(err, from+int64(m), to))
		}
		addBytes(step[from-a.at:], old)
	}
	a.at += n
	return n, a.put(ctx, step)
}

// addBytes adds old to dst, byte by byte.
func addBytes(dst, old []byte) {
	dst = dst[:len(old)]
	for i, v := range old {
		dst[i] += v
	}
}

func (a *bsdiffer) put(ctx context.Context, b []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := a.w.Write(b)
	a.left -= int64(len(b))
	return err
}

// unexpected is err for a block that ended too early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
