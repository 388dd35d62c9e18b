package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/patch"
)

// Why a drop is not brought in. The reasons are short and stable, for metrics
// and /models; the error's text says the rest.
var (
	ErrPresent      = errors.New("already present")
	ErrOlder        = errors.New("older than the active version")
	ErrRefused      = errors.New("refused")
	ErrEnvironment  = errors.New("environment variable missing")
	ErrSchema       = errors.New("schema version unsupported")
	ErrSignature    = errors.New("signature refused")
	ErrSize         = errors.New("wrong size")
	ErrEscapes      = errors.New("leads out of the drop")
	ErrDiskFull     = errors.New("disk full")
	ErrTooManyMaps  = errors.New("over the mapping budget")
	ErrCopies       = errors.New("over the limit on private memory")
	errNoChild      = errors.New("patches are applied by a child process, and no command for it is configured: ship a .qd delta")
	errGroupMemory  = errors.New("not enough memory in the control group")
	ErrInUse        = errors.New("used by another process") // a store
	errBaseMissing  = errors.New("base missing")
	errInterrupted  = errors.New("loader closed")
	errNotCommitted = errors.New("no manifest yet")
)

// transient reports whether the same drop may pass later on.
func transient(err error) bool {
	for _, e := range []error{ErrDiskFull, ErrQuota, fs.ErrNotExist, ErrTooManyMaps, ErrLockLimit, errGroupMemory, patch.ErrKilled, errInterrupted, errNotCommitted, unix.ESTALE, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain names the causes that callers, and transient, tell apart.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, patch.ErrDiskFull) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	default:
		return err
	}
}

// admit says why a version must not be brought in, given what serves now. asked:
// somebody wants it though a later one may be active.
func (m *model) admit(mf *delta.Manifest, asked bool, lookup func(string) (string, bool), schemas []int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.refused[mf.Version]; ok {
		return fmt.Errorf("%s@%d was rolled back (%s): give its successor a higher number: %w", mf.Model, mf.Version, r.Reason, ErrRefused)
	}
	for _, v := range m.mapped {
		if v.state != Unloading && v.state != Freed && v.state != Failed && v.info.Number == mf.Version {
			return fmt.Errorf("%s@%d is %s, %s; other bytes need a higher number: %w", mf.Model, mf.Version, v.state, same(v.info.Root, mf.TargetRoot), ErrPresent)
		}
	}
	if a := m.active; a != nil && mf.Version < a.info.Number && !asked {
		return fmt.Errorf("%s@%d comes after %s, which is active; to go back, roll back: %w", mf.Model, mf.Version, &a.info, ErrOlder)
	}
	if mf.Version <= m.floor && !asked {
		return fmt.Errorf("%s@%d: somebody went back from %d by hand (or it was refused so long ago that the list does not have it): give the next version a higher number: %w", mf.Model, mf.Version, m.floor, ErrOlder)
	}
	for _, name := range mf.RequiredEnv {
		if _, ok := lookup(name); !ok {
			return fmt.Errorf("required_env: %s is not set here; start the sidecar with it: %w", name, ErrEnvironment)
		}
	}
	if slices.Contains(schemas, mf.SchemaVersion) {
		return nil
	}
	return fmt.Errorf("schema_version: is %d, this program knows %v; ship it as one of these, or update the program: %w", mf.SchemaVersion, schemas, ErrSchema)
}

func same(have, got delta.Root) string {
	if have == got {
		return "with the same root"
	}
	return "with another root, " + have.Short()
}
