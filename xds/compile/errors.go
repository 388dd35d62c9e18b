package compile

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Error is one reason why a resource is not taken.
type Error struct {
	Type     string // what it is: listener, route table, cluster, assignment, runtime layer
	Resource string // its name
	Path     string // of the field, such as virtual_hosts[0].routes[3].match; "" for the whole
	Reason   string // in at most 300 bytes
	Hint     string // what to do about it; "" when the reason says it
}

// unsupported is how the reason of a refused field starts.
const unsupported = "unsupported"

// Unsupported reports whether the resource says nothing wrong, but something that
// quadnine does not do.
func (e *Error) Unsupported() bool { return strings.HasPrefix(e.Reason, unsupported) }

// Error returns all of e in one line.
func (e *Error) Error() string {
	var b strings.Builder
	reason, refused := strings.CutPrefix(e.Reason, unsupported)
	if refused {
		b.WriteString("unsupported: ")
	}
	b.WriteString(e.Type)
	b.WriteByte(' ')
	b.WriteString(strconv.Quote(e.Resource))
	if e.Path != "" {
		b.WriteByte(' ')
		b.WriteString(e.Path)
	}
	if !refused {
		b.WriteString(": ")
	}
	b.WriteString(reason)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// crashed is how the reason of a resource starts that the compiler has a mistake
// in.
const crashed = "internal error"

// rescue makes a panic while a resource is compiled the reason why that resource is
// not taken: no resource ends the process. What is kept of it may be half changed,
// and is dropped.
func rescue(typ, name string, forget func(string), err *error) {
	p := recover()
	if p == nil {
		return
	}
	forget(name)
	frames, where := callers(), ""
	for f, more := frames.Next(); more; f, more = frames.Next() {
		if !strings.HasPrefix(f.Function, "runtime.") {
			where = " at " + filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
			break
		}
	}
	*err = &Error{
		Type: typ, Resource: clip(name, 200), Reason: clip(fmt.Sprintf("%s%s: %v", crashed, where, p), 300),
		Hint: "this is a mistake in quadnine, not in the resource: report it",
	}
}

// callers returns where a panic came from, of the function that recovered it.
func callers() *runtime.Frames {
	pc := make([]uintptr, 16)
	return runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
}

// Reasons returns the Errors that err joins.
func Reasons(err error) []*Error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*Error
		for _, e := range joined.Unwrap() {
			out = append(out, Reasons(e)...)
		}
		return out
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return nil
}

// clip bounds s for an error: a value of a resource can be of any length.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xC0 == 0x80 {
		limit--
	}
	return s[:limit] + "…"
}
