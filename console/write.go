package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

// format is how a page is written.
type format string

const (
	asText  format = "text"
	asJSON  format = "json"
	asLines format = "jsonl" // one JSON value a line
)

// formatOf returns the format a request asks for, or answers 400 and returns
// false when it is none of allowed.
func formatOf(w http.ResponseWriter, r *http.Request, allowed ...format) (format, bool) {
	asked := format(r.URL.Query().Get("format"))
	if asked == "" {
		return asText, true
	}
	names := make([]string, len(allowed))
	for i, f := range allowed {
		if f == asked {
			return f, true
		}
		names[i] = string(f)
	}
	fail(w, http.StatusBadRequest, "console: format=%s: want one of %s", printable(string(asked)), strings.Join(names, ", "))
	return "", false
}

// text starts a plain-text answer.
func text(w http.ResponseWriter, status int) io.Writer {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	return w
}

// fail answers with one line: what, where, what to do next.
func fail(w http.ResponseWriter, status int, line string, args ...any) {
	_, _ = fmt.Fprintf(text(w, status), line+"\n", args...)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the views' structs always encode; a caller that went away has nobody to tell
}

// stream writes items as they come, so that a dump of any size costs one buffer.
// As JSON they are the array called name in one object. line writes one item as
// text. It stops at the first failed write: the caller went away.
func stream[T any](w http.ResponseWriter, f format, name string, items iter.Seq[T], line func(io.Writer, T)) {
	out := bufio.NewWriter(w)
	contentType, head, between, tail := "text/plain; charset=utf-8", "", "", ""
	switch f {
	case asJSON:
		contentType, head, between, tail = "application/json", "{"+strconv.Quote(name)+":[\n", ",", "]}\n"
	case asLines:
		contentType = "application/jsonl"
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = out.WriteString(head)
	enc := json.NewEncoder(out)
	first := true
	for item := range items {
		if !first {
			_, _ = out.WriteString(between)
		}
		first = false
		if f == asText {
			line(out, item)
		} else if enc.Encode(item) != nil {
			return
		}
		if _, err := out.Write(nil); err != nil { // bufio keeps the first error
			return
		}
	}
	_, _ = out.WriteString(tail)
	_ = out.Flush()
}

// printable returns s, quoted if it could break a line or move a terminal's
// cursor: tenants and metrics come from callers.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}
