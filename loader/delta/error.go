package delta

import "fmt"

// FormatError says that bytes are not what their format allows. Its text says
// where and what; the caller puts the file's name before it.
type FormatError struct{ err error }

// Error returns what is wrong and where.
func (e *FormatError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.err }

func malformed(format string, args ...any) error { return &FormatError{fmt.Errorf(format, args...)} }

// MismatchError says that bytes do not have the root that was promised.
type MismatchError struct {
	What      string // "payload", "base"
	Who       string // who promised: "the header", "the manifest"
	Got, Want Root
}

// Error names both roots and what to do.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s has root %s, %s says %s: %s", e.What, e.Got.Short(), e.Who, e.Want.Short(), e.next())
}

func (e *MismatchError) next() string {
	if e.What == "base" {
		return "the delta was made from another base; take the one it names, or make the delta anew"
	}
	return "it was damaged or changed on the way; copy it again"
}
