package delta

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Sized is bytes that can be read from anywhere, by many at once, and their
// number: *bytes.Reader and *io.SectionReader are such.
type Sized interface {
	io.ReaderAt
	Size() int64
}

// Section makes r's first size bytes a Sized.
func Section(r io.ReaderAt, size int64) Sized { return io.NewSectionReader(r, 0, size) }

// Options say how work that reads whole models is done.
type Options struct {
	Workers  int           // goroutines that hash or compare; less than 1 means 1
	Enter    func()        // called first by each of those that is not the caller's own: it may choose a thread; nil: nothing is to be done
	Progress func(n int64) // n more bytes are done; called from any worker; nil for nobody
}

func (o Options) done(n int64) {
	if o.Progress != nil {
		o.Progress(n)
	}
}

const chunkSize = 256 << 10 // what a worker reads at once: stays in its core's cache

// chunks are lent to workers: made anew for each file they would be most of what a
// collector has to do while versions come in, and it works beside requests.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// each calls f for every number below n, spread over o.Workers goroutines, each
// with its own state from start, which finish takes back. The first error ends it,
// and so does ctx.
func each[S any](ctx context.Context, o Options, n int64, start func() S, finish func(S), f func(S, int64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	work := func() {
		s := start()
		defer finish(s)
		for ctx.Err() == nil {
			i := next.Add(1) - 1
			if i >= n {
				return
			}
			if err := f(s, i); err != nil {
				cancel(err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	for range min(int64(max(o.Workers, 1)), n) - 1 {
		wg.Go(func() {
			if o.Enter != nil {
				o.Enter()
			}
			work()
		})
	}
	work()
	wg.Wait()
	return context.Cause(ctx)
}

// readFull fills p from off.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return malformed("ends at byte %d, want at least %d: it was cut off or is still being written", off+int64(n), off+int64(len(p)))
	}
	return err
}

// LeavesOf returns the leaves of s.
func LeavesOf(ctx context.Context, s Sized, o Options) (Leaves, error) {
	size := s.Size()
	l := make(Leaves, LeafCount(size)*RootSize)
	err := each(ctx, o, (size+chunkSize-1)/chunkSize, lendChunk, returnChunk, func(buf *[chunkSize]byte, i int64) error {
		off := i * chunkSize
		b := buf[:min(chunkSize, size-off)]
		if err := readFull(s, b, off); err != nil {
			return err
		}
		first := off / BlockSize
		appendLeaves(l[first*RootSize:first*RootSize], b) // into place: the capacity is there
		o.done(int64(len(b)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func lendChunk() *[chunkSize]byte { return chunks.Get().(*[chunkSize]byte) }

func returnChunk(b *[chunkSize]byte) { chunks.Put(b) }

// RootOf returns the root of r's first size bytes, hashed on the calling
// goroutine. For large ranges see LeavesOf.
func RootOf(r io.ReaderAt, size int64) (Root, error) {
	l, err := LeavesOf(context.Background(), Section(r, size), Options{})
	if err != nil {
		return Root{}, err
	}
	return rootOf(size, l), nil
}
