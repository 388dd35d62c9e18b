package differential

import (
	_ "embed"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
)

//go:embed differences.txt
var differencesText string

// allowance is one line of differences.txt.
type allowance struct {
	where, aspect, reason string
	used                  bool
}

// allowances are what may differ. Safe for concurrent use.
type allowances struct {
	mu    sync.Mutex
	lines []*allowance
}

var allowed allowances

// load reads differences.txt: case | aspect | reason, with * in the first two.
func (a *allowances) load() error {
	for i, line := range strings.Split(differencesText, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 3 || strings.TrimSpace(f[2]) == "" {
			return fmt.Errorf("differences.txt:%d: want case | aspect | reason", i+1)
		}
		a.lines = append(a.lines, &allowance{where: f[0], aspect: f[1], reason: f[2]})
	}
	return nil
}

// covers reports whether a difference is listed.
func (a *allowances) covers(where, aspect string) bool {
	if self {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lines {
		in, err1 := path.Match(l.where, where)
		of, err2 := path.Match(l.aspect, aspect)
		if in && of && err1 == nil && err2 == nil {
			l.used = true
			return true
		}
	}
	return false
}

// unused returns the lines that nothing matched.
func (a *allowances) unused() string {
	var out strings.Builder
	for _, l := range a.lines {
		if !l.used {
			fmt.Fprintf(&out, "%s | %s | %s\n", l.where, l.aspect, l.reason)
		}
	}
	return out.String()
}

// report fails for every difference that is not listed.
func report(t *testing.T, where, what string, found []difference) {
	t.Helper()
	for _, d := range found {
		if !allowed.covers(where, d.aspect) {
			t.Errorf("%s | %s | differs:\n  %s\n  Envoy:    %q\n  quadnine: %q", where, d.aspect, what, d.envoy, d.ours)
		}
	}
}
