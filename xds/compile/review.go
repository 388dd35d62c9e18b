package compile

import (
	"errors"
	"fmt"
)

// maxReasons bounds the errors of one resource: the rest says the same.
const maxReasons = 20

// review collects what is wrong with a resource and what of it has no effect.
type review struct {
	typ, name string
	strict    bool
	notes     Notes
	errs      []error
	more      int

	secured, secures sockets // transport sockets of the resource as it was, and as it is
}

// fail adds an error at p.
func (r *review) fail(p *at, hint, format string, args ...any) {
	if len(r.errs) >= maxReasons {
		r.more++
		return
	}
	r.errs = append(r.errs, &Error{
		Type: r.typ, Resource: clip(r.name, 200), Path: clip(p.String(), 400),
		Reason: clip(fmt.Sprintf(format, args...), 300), Hint: hint,
	})
}

// refuse adds that what stands at p is not supported.
func (r *review) refuse(p *at, value, hint string) {
	r.fail(p, hint, unsupported+" (set to %s)", clip(value, 80))
}

// ignore notes that what stands at p has no effect.
func (r *review) ignore(p *at, value, reason string) {
	r.notes.ignore(r.typ + "/" + p.kind() + " (set to " + clip(value, 60) + "): " + reason)
}

// failed reports whether anything is wrong.
func (r *review) failed() bool { return len(r.errs) > 0 }

func (r *review) err() error {
	if r.more > 0 {
		r.errs = append(r.errs, &Error{Type: r.typ, Resource: clip(r.name, 200), Reason: fmt.Sprintf("and %d more errors", r.more)})
		r.more = 0
	}
	return errors.Join(r.errs...)
}
