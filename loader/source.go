package loader

import "os"

// Candidate is a drop that a Source found, or found gone.
type Candidate struct {
	Drop string                   // its name, the same each time
	Dir  string                   // where it is, for versions that stay in place
	Open func() (*os.Root, error) // opens it; nothing outside can be reached through it
	Gone bool                     // it is not there any more
}

// closeRoot ends the use of a directory that was only read.
func closeRoot(root *os.Root) { _ = root.Close() }

// Source finds drops. It reports a drop when it is committed, again when its
// manifest was replaced, and when it is gone; more often does no harm.
type Source interface {
	Candidates() <-chan Candidate
}

// Judge says what becomes of a canary. It is asked every Options.JudgeEvery on
// the loader's goroutine and must not block.
type Judge interface {
	Verdict(canary, active *Info) (v Verdict, reason string)
}
