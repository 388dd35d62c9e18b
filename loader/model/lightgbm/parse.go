package lightgbm

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// maxText bounds a model's text, bytes.
const maxText = 1 << 30

// Error is what is wrong with a model's text, and where.
type Error struct {
	Line int // from 1
	Err  error
}

// Error returns "line N: cause".
func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// parser reads line by line.
type parser struct {
	rest string
	line int // of the last line that was read
}

func (p *parser) errf(format string, args ...any) error {
	return &Error{p.line, fmt.Errorf(format, args...)}
}

// next returns the next line without its end, or false.
func (p *parser) next() (string, bool) {
	if p.rest == "" {
		return "", false
	}
	p.line++
	var line string
	line, p.rest, _ = strings.Cut(p.rest, "\n")
	return strings.TrimSuffix(line, "\r"), true
}

// member is one "name=value" and where it stands.
type member struct {
	value string
	line  int
}

// section is a run of members up to an empty line.
type section map[string]member

// section reads members until an empty line or stop says that a line begins
// something else, which it returns.
func (p *parser) section(known []string, stop func(line string) bool) (s section, last string, err error) {
	s = section{}
	for {
		line, ok := p.next()
		if !ok {
			return nil, "", p.errf("the text ends here, before \"end of trees\": it was cut off")
		}
		if stop(line) {
			return s, line, nil
		}
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if !slices.Contains(known, name) {
			return nil, "", p.errf("%q is not known: this program reads what LightGBM 2 to 4 write", clip(name))
		}
		if _, twice := s[name]; twice {
			return nil, "", p.errf("%s is there twice", name)
		}
		s[name] = member{value, p.line}
	}
}

func clip(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// Parse reads a model's text, as Booster.save_model writes it. The features are
// those that some split uses, in the model's order. An error is an *Error, or r's.
func Parse(r io.Reader) (*trees.Model, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxText {
		return nil, &Error{1, fmt.Errorf("the text has more than %d bytes", maxText)}
	}
	p := &parser{rest: string(text)}
	if first, _ := p.next(); first != "tree" {
		return nil, &Error{1, errors.New(`the first line is not "tree": is it what LightGBM's save_model wrote?`)}
	}
	isTree := func(line string) bool { return strings.HasPrefix(line, "Tree=") || line == "end of trees" }
	head, line, err := p.section(headNames, isTree)
	if err != nil {
		return nil, err
	}
	h, err := parseHead(head, p.line)
	if err != nil {
		return nil, err
	}
	m := &trees.Model{Header: trees.Header{Average: h.average, Transform: h.transform, Scale: h.scale}}
	for line != "end of trees" {
		if want := "Tree=" + strconv.Itoa(len(m.Trees)); line != want {
			return nil, p.errf("got %q, want %q", clip(line), want)
		}
		begin := p.line
		var s section
		if s, line, err = p.section(treeNames, isTree); err != nil {
			return nil, err
		}
		t, err := parseTree(s, begin, len(h.features))
		if err != nil {
			return nil, err
		}
		m.Trees = append(m.Trees, *t)
	}
	switch {
	case len(m.Trees) == 0:
		return nil, p.errf("the model has no tree")
	case h.trees >= 0 && h.trees != len(m.Trees):
		return nil, p.errf("%d trees, tree_sizes counts %d", len(m.Trees), h.trees)
	}
	if err := compact(m, h.features, p.line); err != nil {
		return nil, err
	}
	return m, nil
}

// compact leaves out the features that no split uses and numbers the others
// anew.
func compact(m *trees.Model, features []string, line int) error {
	used := make([]bool, len(features))
	for i := range m.Trees {
		for j := range m.Trees[i].Splits {
			used[m.Trees[i].Splits[j].Feature] = true
		}
	}
	number := make([]int, len(features))
	for i, name := range features {
		if used[i] {
			number[i] = len(m.Header.Features)
			m.Header.Features = append(m.Header.Features, name)
		}
	}
	if n := len(m.Header.Features); n > trees.MaxFeatures {
		return &Error{line, fmt.Errorf("the trees use %d features, at most %d can be given", n, trees.MaxFeatures)}
	}
	for i := range m.Trees {
		for j := range m.Trees[i].Splits {
			s := &m.Trees[i].Splits[j]
			s.Feature = number[s.Feature]
		}
	}
	return nil
}
