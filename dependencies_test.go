package quadnine_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every direct dependency has its line in docs/dependencies.md, and every line a
// dependency.
func TestDependenciesAreDocumented(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/?\S*) v\S+( // indirect)?$`).FindAllStringSubmatch(string(mod), -1) {
		if m[2] == "" {
			direct[m[1]] = true
		}
	}
	if len(direct) < 10 {
		t.Fatalf("only %d direct dependencies found in go.mod", len(direct))
	}
	documented := make(map[string]bool)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.Contains(cells[1], ".") {
			continue
		}
		name := strings.TrimSpace(cells[1])
		documented[name] = true
		if !direct[name] {
			t.Errorf("docs/dependencies.md lists %s, which go.mod does not require directly", name)
		}
	}
	for name := range direct {
		if !documented[name] {
			t.Errorf("docs/dependencies.md has no line for %s: say what it does, why this one, what it costs", name)
		}
	}
}
