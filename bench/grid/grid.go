// Package grid writes a table as text in columns or as Markdown.
//
// # Concurrency
// A Table is not safe for concurrent use.
package grid

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is a table with its title above and its notes below.
type Table struct {
	Title  string
	About  string // a sentence or two below the title
	Header []string
	Rows   [][]string
	Notes  []string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Note appends a note and returns its mark; an equal note keeps its mark.
func (t *Table) Note(text string) string {
	for i, n := range t.Notes {
		if n == text {
			return mark(i)
		}
	}
	t.Notes = append(t.Notes, text)
	return mark(len(t.Notes) - 1)
}

// mark names note i: a to z, then aa, ab and so on.
func mark(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return mark(i/26-1) + mark(i%26)
}

// Text writes the table in columns: the first one to the left, the others to the
// right.
func (t *Table) Text(w io.Writer) error {
	width := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", t.Title)
	if t.About != "" {
		fmt.Fprintln(&b, t.About)
	}
	b.WriteByte('\n')
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				b.WriteString(c + pad)
				continue
			}
			b.WriteString("  " + pad + c)
		}
		b.WriteByte('\n')
	}
	t.foot(&b, "%s  %s\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the table with pipes, below a heading.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n", t.Title)
	if t.About != "" {
		fmt.Fprintf(&b, "%s\n", t.About)
	}
	b.WriteByte('\n')
	line := func(row []string) {
		for _, c := range row {
			b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(t.Header)
	b.WriteString("|---" + strings.Repeat("|--:", len(t.Header)-1) + "|\n")
	for _, row := range t.Rows {
		line(row)
	}
	t.foot(&b, "- %s: %s\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) foot(b *strings.Builder, format string) {
	if len(t.Notes) > 0 {
		b.WriteByte('\n')
	}
	for i, n := range t.Notes {
		fmt.Fprintf(b, format, mark(i), n)
	}
}
