package client

import "fmt"

// Role is what a version was when a lease on it was taken.
type Role uint8

// The roles.
const (
	Active Role = iota // answers
	Canary             // answers a share of the draws, on trial
)

// String returns the role as the sidecar's pages have it.
func (r Role) String() string {
	if r == Canary {
		return "canary"
	}
	return "active"
}

// Lease is a counted hold on a version. The zero Lease holds nothing.
type Lease struct {
	v    *version
	role Role
}

// Release gives the lease back. It must be called exactly once.
func (l Lease) Release() {
	if l.v != nil {
		l.v.release()
	}
}

// Info returns what is held, or nil for the zero Lease.
func (l Lease) Info() *Info {
	if l.v == nil {
		return nil
	}
	return &l.v.info
}

// Role returns what the version was when the lease was taken.
func (l Lease) Role() Role { return l.role }

// Done is closed when the lease is revoked: its version was out of use for longer
// than the sidecar waits, or the client was closed. The zero Lease has none.
func (l Lease) Done() <-chan struct{} {
	if l.v == nil {
		return nil
	}
	return l.v.done
}

// With runs f over the version's bytes and returns its error. f must not keep a
// slice of them, nor hand one to another goroutine. If the bytes cannot be read,
// f ends where it tried to and With returns ErrFault, or ErrRevoked when the
// lease is why.
func (l Lease) With(f func(View) error) error {
	if l.v == nil {
		return fmt.Errorf("client: %w", ErrNoVersion)
	}
	return l.v.with(f)
}
