package delta

import (
	"reflect"
	"strings"
	"testing"
)

const studied = `"shadow": {"percent": 12.5, "queries": 300},
  "warmup": [{"input": {"uv": 1, "pv": 2.5}, "min": 0, "max": 3}, {"input": {"uv": -1e3, "pv": 0}}],
  "canary"`

func TestStudiesOfAManifest(t *testing.T) {
	text := strings.Replace(fullManifest, `"canary"`, studied, 1)
	m, err := ParseManifest(ManifestName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if *m.Shadow != (Shadow{12.5, 300}) || len(m.Warmup) != 2 || m.Warmup[0].Input["pv"] != 2.5 || *m.Warmup[0].Max != 3 || m.Warmup[1].Min != nil {
		t.Errorf("%+v %+v", m.Shadow, m.Warmup)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseManifest(ManifestName, b)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Fatalf("after a round: %v\n%s", err, b)
	}
	if !schemaTakes(t, schema(t), text) || !schemaTakes(t, schema(t), string(b)) {
		t.Error("the schema refuses it")
	}
	empty := strings.Replace(fullManifest, `"canary"`, `"shadow": {}, "canary"`, 1)
	if m, err := ParseManifest(ManifestName, []byte(empty)); err != nil || *m.Shadow != DefaultShadow {
		t.Errorf("defaults: %+v, %v", m, err)
	}
}

func TestStudiesRefused(t *testing.T) {
	s := schema(t)
	for _, c := range []struct {
		from, to, want string
		beyondSchema   bool
	}{
		{`"percent": 12.5`, `"percent": 0`, "shadow.percent: is 0: want more than 0, at most 100", false},
		{`"percent": 12.5`, `"percent": 101`, "shadow.percent: is 101", false},
		{`"percent": 12.5`, `"percent": "1"`, `shadow.percent: got text "1", want a number`, false},
		{`"percent": 12.5`, `"share": 12.5`, "shadow.share: unknown field; known here: percent, queries", false},
		{`"queries": 300`, `"queries": -1`, "shadow.queries: got -1", false},
		{`"input": {"uv": 1, "pv": 2.5}`, `"input": {"uv": 1}`, "warmup[0].input.pv: is missing", true},
		{`"input": {"uv": 1, "pv": 2.5}`, `"input": {"uv": 1, "pv": 2.5, "x": 0}`, "warmup[0].input.x: is not known: eval.input has [pv uv]", true},
		{`"input": {"uv": 1, "pv": 2.5}`, `"input": {"uv": 1, "pv": 1e999}`, "warmup[0].input.pv: got 1e999, want a number", true},
		{`"input": {"uv": 1, "pv": 2.5}, `, ``, "warmup[0].input: is missing", false},
		{`"min": 0, "max": 3`, `"min": 4, "max": 3`, "warmup[0]: min is 4, max 3: no number is between them", true},
		{`"max": 3`, `"max": null`, "warmup[0].max: got null, want a number", false},
		{`"max": 3`, `"most": 3`, "warmup[0].most: unknown field; known here: input, min, max", false},
	} {
		text := strings.Replace(strings.Replace(fullManifest, `"canary"`, studied, 1), c.from, c.to, 1)
		if _, err := ParseManifest(ManifestName, []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.to, err, c.want)
		}
		if schemaTakes(t, s, text) != c.beyondSchema {
			t.Errorf("%s: the schema takes it: %v", c.to, !c.beyondSchema)
		}
	}
	before, eval, _ := strings.Cut(fullManifest, `"eval"`)
	_, after, _ := strings.Cut(eval, `"canary"`)
	routed := before + studied + after
	for _, want := range []string{"shadow: needs eval", "warmup: needs eval"} {
		if _, err := ParseManifest(ManifestName, []byte(routed)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if schemaTakes(t, s, routed) {
		t.Error("the schema takes shadow and warmup without eval")
	}
	many := `"warmup": [` + strings.Repeat(`{"input": {"uv": 1, "pv": 1}},`, maxWarmup) + `{"input": {"uv": 1, "pv": 1}}], "canary"`
	if _, err := ParseManifest(ManifestName, []byte(strings.Replace(fullManifest, `"canary"`, many, 1))); err == nil || !strings.Contains(err.Error(), "warmup: has 1025 requests, at most 1024") {
		t.Errorf("too many: %v", err)
	}
}

// The signature covers all of it, and says the same of texts that mean the same.
func TestStudiesAreSigned(t *testing.T) {
	root := func(studies string) Root {
		t.Helper()
		text := strings.Replace(fullManifest, `"canary"`, studies, 1)
		m, err := ParseManifest(ManifestName, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		h := &Header{BaseRoot: m.Base.Root, TargetRoot: m.TargetRoot}
		r, err := m.SignedRoot(h)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	was := root(studied)
	for _, change := range [][2]string{
		{`12.5`, `12`},
		{`300`, `301`},
		{`"uv": 1,`, `"uv": 2,`},
		{`"min": 0,`, ``},
		{`"max": 3`, `"max": 4`},
		{`-1e3`, `-1e4`},
		{`{"input": {"uv": 1, "pv": 2.5}, "min": 0, "max": 3}, `, ``},
	} {
		if root(strings.Replace(studied, change[0], change[1], 1)) == was {
			t.Errorf("%s → %s is not signed", change[0], change[1])
		}
	}
	for _, same := range [][2]string{{`-1e3`, `-1000`}, {`12.5`, `1.25e1`}, {`"min": 0`, `"min": -0`}, {`"pv": 0}`, `"pv": -0.0}`}, {`{"percent": 12.5, "queries": 300}`, `{"queries": 300, "percent": 12.5}`}} {
		if root(strings.Replace(studied, same[0], same[1], 1)) != was {
			t.Errorf("%s → %s changes the signature", same[0], same[1])
		}
	}
	if root(`"shadow": {}, "canary"`) != root(`"shadow": {"percent": 100, "queries": 0}, "canary"`) {
		t.Error("a default that is written out changes the signature")
	}
}
