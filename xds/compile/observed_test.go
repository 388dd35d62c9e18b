package compile

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestUsedFieldsAreObserved: whoever accepts a field names what observes it, as
// "PLACE: TEST" or "PLACE: CASE" of a table of cases. Of these two places a test
// must also name the field:
//
//	differential  conformance/differential, beside Envoy
//	observed      observe_*_test.go here
//
// Any other place is the folder of a package, whose tests are about what the
// field was compiled to.
func TestUsedFieldsAreObserved(t *testing.T) {
	sources := map[string]*corpus{
		"differential": read(t, filepath.Join("..", "..", "conformance", "differential"), "*_test.go", "build", "tableOf", "listenerOf"),
		"observed":     read(t, ".", "observe_*_test.go", "configuration", "listenerWire"),
	}
	check := func(name protoreflect.FullName, f field) {
		if f.what != used {
			if f.test != "" {
				t.Errorf("%s is not used, and names a test", name)
			}
			return
		}
		place, test, _ := strings.Cut(f.test, ": ")
		if test == "" {
			t.Errorf("%s: nothing observes it: name a test", name)
			return
		}
		own := sources[place]
		exact := own != nil && (place == "differential" || place == "observed")
		if own == nil {
			own = read(t, filepath.Join("..", "..", filepath.FromSlash(place)), "*_test.go")
			sources[place] = own
		}
		text, ok := own.tests[test]
		switch {
		case !ok:
			t.Errorf("%s: there is no test or case %q in %s", name, test, place)
		case exact && !own.names(text, string(name.Name())):
			t.Errorf("%s: %q does not set it", name, f.test)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		check(name, table[name])
	}
	for at, f := range places {
		check(at.field, f)
	}
}

// corpus is the tests of a package.
type corpus struct {
	tests map[string]string // source text by the name of a test or a case
	decls map[string]string // of what has a name besides
	frame string            // what belongs to every case
}

var identifier = regexp.MustCompile(`[A-Za-z_]\w*`)

// names reports whether text, or what it refers to, has the field, in either of
// its spellings.
func (s *corpus) names(text, field string) bool {
	word := regexp.MustCompile(`\b(` + field + `|` + camel(field) + `)\b`)
	return word.MatchString(s.frame) || word.MatchString(s.whole(text, make(map[string]bool)))
}

// whole is text with what it refers to.
func (s *corpus) whole(text string, seen map[string]bool) string {
	var b strings.Builder
	b.WriteString(text)
	for _, id := range identifier.FindAllString(text, -1) {
		if d, ok := s.decls[id]; ok && !seen[id] {
			seen[id] = true
			b.WriteString(s.whole(d, seen))
		}
	}
	return b.String()
}

// camel returns a field's name as protobuf's JSON spells it.
func camel(snake string) string {
	parts := strings.Split(snake, "_")
	for i, p := range parts[1:] {
		if p != "" {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

// read reads the tests of a folder. The methods that it is told make up the
// frame.
func read(t *testing.T, dir, pattern string, frame ...string) *corpus {
	t.Helper()
	s := &corpus{tests: make(map[string]string), decls: make(map[string]string)}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no tests: %v", dir, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		part := func(n ast.Node) string {
			return string(text[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset])
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				switch {
				case d.Recv != nil && slices.Contains(frame, d.Name.Name):
					s.frame += part(d)
				case d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test"):
					s.tests[d.Name.Name] = part(d)
				case d.Recv == nil:
					s.decls[d.Name.Name] = part(d)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						for _, name := range v.Names {
							s.decls[name.Name] = part(v)
						}
					}
				}
				s.cases(d, part)
			}
		}
	}
	s.frame = s.whole(s.frame, make(map[string]bool))
	return s
}

// cases finds the cases of the tables in d: elements of a list that begin with
// their name, or say it.
func (s *corpus) cases(d *ast.GenDecl, part func(ast.Node) string) {
	ast.Inspect(d, func(n ast.Node) bool {
		list, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if _, ok := list.Type.(*ast.ArrayType); !ok {
			return true
		}
		for _, e := range list.Elts {
			if name := caseName(e); name != "" {
				s.tests[name] = part(e)
			}
		}
		return true
	})
}

func caseName(e ast.Expr) string {
	var in []ast.Expr
	switch e := e.(type) {
	case *ast.CallExpr:
		in = e.Args
	case *ast.CompositeLit:
		in = e.Elts
	}
	for i, x := range in {
		switch x := x.(type) {
		case *ast.BasicLit:
			if i > 0 || x.Kind != token.STRING {
				continue
			}
			if name, err := strconv.Unquote(x.Value); err == nil {
				return name
			}
		case *ast.KeyValueExpr:
			if k, ok := x.Key.(*ast.Ident); ok && k.Name == "name" {
				if v, ok := x.Value.(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(v.Value); err == nil {
						return name
					}
				}
			}
		case *ast.CompositeLit:
			if name := caseName(x); name != "" {
				return name
			}
		}
	}
	return ""
}
