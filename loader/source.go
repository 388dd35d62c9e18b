package loader

import (
	"os"
	"sync"

	"github.com/quadnine/quadnine/loader/delta"
)

// Candidate is a drop that a Source found, or found gone.
type Candidate struct {
	Drop string                   // its name, the same each time
	Dir  string                   // where it is, for versions that stay in place
	Open func() (*os.Root, error) // opens it; nothing outside can be reached through it
	Gone bool                     // it is not there any more

	// What a source that fetches says besides:
	Only   delta.Role  // of the manifest's files the one to use; empty: the loader chooses
	Copied bool        // its directory does not stay: it is copied whatever Options.Mode says
	Below  []Candidate // the versions between one that is here and this one, lowest first: they become bases, never canaries

	// Asked is set when somebody asked for this version by its number: it becomes the
	// active one without a trial, though a later one may be active. Asked is told once
	// what came of it, on the loader's goroutine; it must not block.
	Asked func(error)
}

// closeRoot ends the use of a directory that was only read.
func closeRoot(root *os.Root) { _ = root.Close() }

// Source finds drops. It reports a drop when it is committed, again when its
// manifest was replaced, and when it is gone; more often does no harm.
type Source interface {
	Candidates() <-chan Candidate
}

// Sources is a Source of what several find. Make one with Merge.
type Sources struct {
	c    chan Candidate
	done chan struct{}
	wg   sync.WaitGroup
}

// Merge makes one source out of several, whose drops have different names.
func Merge(sources ...Source) *Sources {
	s := &Sources{c: make(chan Candidate), done: make(chan struct{})}
	for _, from := range sources {
		s.wg.Go(func() { s.pass(from.Candidates()) })
	}
	return s
}

// Candidates returns the drops of all sources as they are found.
func (s *Sources) Candidates() <-chan Candidate { return s.c }

// Close ends the merging; the sources themselves are closed by who made them.
func (s *Sources) Close() {
	close(s.done)
	s.wg.Wait()
}

func (s *Sources) pass(from <-chan Candidate) {
	for {
		select {
		case c, ok := <-from:
			if !ok {
				return
			}
			select {
			case s.c <- c:
			case <-s.done:
				return
			}
		case <-s.done:
			return
		}
	}
}

// Judge says what becomes of a canary. It is asked every Options.JudgeEvery on
// the loader's goroutine and must not block.
type Judge interface {
	Verdict(canary, active *Info) (v Verdict, reason string)
}
