package statsapp

import "fmt"

// MaxTime bounds every time, in Unix milliseconds: 2100-01-01T00:00:00Z. A query
// without an end ends here.
const MaxTime int64 = 4_102_444_800_000

// Event is one thing that a user did.
type Event struct {
	Tenant string
	Metric string // custom metric that this event counts towards; may be empty
	Name   string
	User   string
	At     int64 // Unix milliseconds, in [0, MaxTime)

	Timed    bool  // whether Duration was given
	Duration int64 // milliseconds
}

// Add stores e. It fails when e lacks a part, lies outside of [0, MaxTime), or
// the tenant is full (ErrFull).
func (a *App) Add(e Event) error {
	if err := e.check(); err != nil {
		return err
	}
	return a.store.add(e)
}

func (e *Event) check() error {
	switch {
	case !validName(e.Tenant):
		return fmt.Errorf("statsapp: event: tenant %q: want 1 to 64 of A-Z a-z 0-9 . _ -", e.Tenant)
	case e.Name == "" || e.User == "":
		return fmt.Errorf("statsapp: event: name %q and user %q: both are required", e.Name, e.User)
	case e.Metric != "" && builtin(e.Metric):
		return fmt.Errorf("statsapp: event: metric %q is computed, not counted; use another name", e.Metric)
	case e.At < 0 || e.At >= MaxTime:
		return fmt.Errorf("statsapp: event: time %d: want Unix milliseconds in [0, %d)", e.At, MaxTime)
	case e.Duration < 0:
		return fmt.Errorf("statsapp: event: duration %d ms is negative", e.Duration)
	}
	return nil
}

// validName reports whether s may name a tenant: the schemas' pattern.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
