package contest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/quadnine/quadnine/bench/rivals"
)

func TestCases(t *testing.T) {
	names := map[string]bool{}
	left := map[*standSpec]bool{}
	var last *standSpec
	for _, c := range cases() {
		if names[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
		if c.stand != last {
			if left[c.stand] {
				t.Errorf("%s comes back to a stand that was closed", c.name)
			}
			left[last], last = true, c.stand
		}
		if c.rounds < 1 || c.length <= 0 || c.load == nil || c.title == "" {
			t.Errorf("%s is not complete: %+v", c.name, c)
		}
	}
	for _, r := range rivals.All() {
		for what := range r.Cannot {
			if !names[what] && what != string(rivals.HTTP1) && what != string(rivals.TLS) && what != string(rivals.Plain) {
				t.Errorf("%s cannot do %q, which is neither a case nor a mode", r.Name, what)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := (Options{Cases: []string{"tls", "nonsense"}}).chosen(); !errors.Is(err, ErrNoCase) || !strings.Contains(err.Error(), "unbatched") {
		t.Errorf("%v, want ErrNoCase and the names that there are", err)
	}
	got, err := (Options{Cases: []string{"tls", caseStatic}}).chosen()
	if err != nil || len(got) != 2 || got[0].name != caseStatic {
		t.Errorf("%v, %v", got, err)
	}
	c := &testCase{rounds: 5, length: time.Second}
	if o := (Options{Rounds: 9}); o.rounds(c) != 9 || o.length(c) != time.Second {
		t.Error("more rounds than a case needs are not run")
	}
	if o := (Options{Rounds: 9, Quick: true}); o.rounds(c) != 5 || o.length(c) != time.Second/4 {
		t.Error("quick is not quick")
	}
}

// The curve's bootstrap is what it says: so many routes and clusters.
func TestCurveFile(t *testing.T) {
	tmpl, err := template.ParseFS(files, "curve.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, map[string]any{"Config": rivals.Config{ListenPort: 1, AdminPort: 2, BackendPort: 3}, "Routes": 9, "Clusters": 4, "Path": "/q"}); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Static struct {
			Listeners []any `yaml:"listeners"`
			Clusters  []any `yaml:"clusters"`
		} `yaml:"static_resources"`
	}
	if err := yaml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if n := strings.Count(b.String(), "{match:"); n != 10 || len(doc.Static.Clusters) != 5 || len(doc.Static.Listeners) != 1 {
		t.Errorf("%d routes, %d clusters:\n%s", n, len(doc.Static.Clusters), b.String())
	}
}

// broken is a load that one entrant fails and another falls behind in.
type broken struct{ hold }

func (broken) measure(_ context.Context, _ *stand, e *entrant, _ time.Duration) (Sample, error) {
	switch e.Name {
	case "fails":
		return Sample{}, errors.New("it hung up\nand said more")
	case "slow":
		return Sample{Requests: 1, Behind: true, PerSecond: 5_000, Rate: 11_000}, nil
	default:
		return Sample{Requests: 1, CPU: time.Microsecond}, nil
	}
}

// What one rival cannot do leaves the others' figures alone, and is told.
func TestFailuresAreKept(t *testing.T) {
	named := func(name string) *entrant {
		return &entrant{entrantSpec: entrantSpec{Rival: rivals.Rival{Name: name}}}
	}
	refuses := named("refuses")
	refuses.Cannot = map[string]string{"c": "it cannot"}
	dead := named("dead")
	dead.failed = errors.New("rivals: start dead: no such file")
	s := &stand{Options: Options{Log: io.Discard}, spec: &standSpec{}, entrants: []*entrant{named("good"), named("fails"), named("slow"), refuses, dead}}
	res, err := s.contest(t.Context(), &testCase{name: "c", rounds: 3, length: 1, load: broken{}})
	if err == nil || !strings.Contains(err.Error(), "fails, round 1: it hung up") || strings.Contains(err.Error(), "slow") {
		t.Errorf("error: %v", err)
	}
	for name, want := range map[string]struct {
		samples int
		missing string
	}{
		"good": {3, ""}, "fails": {0, "it hung up"}, "slow": {1, ""}, "refuses": {0, "it cannot"}, "dead": {0, "rivals: start dead: no such file"},
	} {
		if c := res.cell(name); len(c.Samples) != want.samples || c.Missing != want.missing {
			t.Errorf("%s: %d samples, %q", name, len(c.Samples), c.Missing)
		}
	}
}
