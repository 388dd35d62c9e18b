package loader

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// worker runs jobs one after the other on a thread of its own, of the lowest
// priority.
func (l *Loader) worker() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
	lower()
	for j := range l.jobs {
		err := guard(j.work)
		l.calls <- func() {
			l.running = false
			j.done(err)
		}
	}
}

// guard runs f; a panic over a drop's odd bytes must cost that drop only.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("loader: defect: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
