package statsapp

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const eventsPath = "/api/v2/events"

const (
	v1Line = `{"sdk":"1.4.0","tenant":"acme","event":"view","user":"u1","ts":1767225600000,"anything":"else"}`
	v2Line = `{"sdk":"2.0.1","tenant":"acme","event":"buy","user":"u2","ts":"2026-01-01T00:00:01.5Z","session":"s","duration_ms":250,"metric":"orders"}`
)

func TestSchemasRefuse(t *testing.T) {
	for _, tc := range []struct{ name, line, class, reason string }{
		{"not json", `{"sdk":`, refusedJSON, "not JSON"},
		{"two values", v1Line + v1Line, refusedJSON, "not JSON"},
		{"array", `[1]`, refusedJSON, "not a JSON object"},
		{"no sdk", `{"tenant":"acme"}`, refusedSDK, "sdk: a version is required"},
		{"unknown sdk", `{"sdk":"3.0.0"}`, refusedSDK, `"3.0.0"; known are 1.x and 2.x`},
		{"odd sdk", strings.Replace(v1Line, "1.4.0", "1.four", 1), refusedSchema, "/sdk: "},
		{"v1 without user", strings.Replace(v1Line, `"user":"u1",`, "", 1), refusedSchema, "missing property 'user'"},
		{"v1 with the time of v2", strings.Replace(v1Line, "1767225600000", `"2026-01-01T00:00:00Z"`, 1), refusedSchema, "/ts: "},
		{"v1 after 2100", strings.Replace(v1Line, "1767225600000", "4102444800000", 1), refusedSchema, "/ts: "},
		{"v2 without session and duration", strings.Replace(v2Line, `"session":"s","duration_ms":250,`, "", 1), refusedSchema, "'session', 'duration_ms'"},
		{"v2 with something else", strings.Replace(v2Line, `"sdk"`, `"color":"red","sdk"`, 1), refusedSchema, "'color'"},
		{"v2 with no time", strings.Replace(v2Line, "2026-01-01T00:00:01.5Z", "noon", 1), refusedSchema, "not valid date-time"},
		{"v2 with a leap second", strings.Replace(v2Line, "2026-01-01T00:00:01.5Z", "2016-12-31T23:59:60Z", 1), refusedSchema, "/ts: "},
		{"v2 before 1970", strings.Replace(v2Line, "2026", "1926", 1), refusedSchema, "Unix milliseconds"},
		{"negative duration", strings.Replace(v2Line, "250", "-1", 1), refusedSchema, "/duration_ms: "},
		{"tenant with a slash", strings.Replace(v1Line, "acme", "a/b", 1), refusedSchema, "/tenant: "},
		{"computed metric", strings.Replace(v2Line, "orders", "uv", 1), refusedSchema, `"uv" is computed`},
		{"too long", strings.Replace(v1Line, "else", strings.Repeat("x", 64<<10), 1), refusedLimit, "longer than 65536 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := newApp(t, Options{})
			w := record(app, "POST", eventsPath, v1Line+"\n\n"+tc.line+"\r\n"+v2Line)
			var got ingested
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != http.StatusOK || got.Accepted != 2 || got.Rejected != 1 || len(got.Errors) != 1 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if e := got.Errors[0]; e.Line != 3 || !strings.Contains(e.Reason, tc.reason) {
				t.Errorf("line %d: %s; want line 3: %s", e.Line, e.Reason, tc.reason)
			}
			v := app.counters.view().Events
			if v.Accepted != 2 || v.Rejected[tc.class] != 1 {
				t.Errorf("counted %+v, want 1 %s", v, tc.class)
			}
			if r, err := app.Query(Query{Tenant: "acme", Metric: "pv", To: MaxTime}); err != nil || r.Value != 2 {
				t.Errorf("kept %+v, %v; want the two good ones", r, err)
			}
		})
	}
}

func TestEventsAreKeptAsSent(t *testing.T) {
	app := newApp(t, Options{})
	record(app, "POST", eventsPath, v1Line+"\n"+v2Line)
	for metric, want := range map[string]float64{"pv": 2, "uv": 2, "orders": 1, "avg_duration": 250} {
		r, err := app.Query(Query{Tenant: "acme", Metric: metric, To: MaxTime})
		if err != nil || r.Value != want {
			t.Errorf("%s: %+v, %v; want %v", metric, r, err, want)
		}
	}
	// v2Line happened at 1.5 s: the end of a range is exclusive, its start is not.
	for from, want := range map[int64]float64{SeedStart + 1500: 1, SeedStart + 1501: 0} {
		r, err := app.Query(Query{Tenant: "acme", Metric: "pv", From: from, To: SeedStart + 2000})
		if err != nil || r.Value != want {
			t.Errorf("from %d: %+v, %v; want %v", from, r, err, want)
		}
	}
}

func TestBadBatches(t *testing.T) {
	app := newApp(t, Options{MaxBody: 1000, MaxEvents: 1})
	for _, tc := range []struct {
		body   string
		status int
		says   string
	}{
		{"", 400, "no events"},
		{"\n \n", 400, "no events"},
		{"{}", 400, `"accepted":0,"rejected":1`},
		{strings.Repeat("x", 1001), 413, "longer than 1000 bytes"},
		{v1Line + "\n" + v1Line, 200, "1 events are kept, the most allowed: tenant is full"},
	} {
		if w := record(app, "POST", eventsPath, tc.body); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%.20q: %d %s; want %d, %s", tc.body, w.Code, w.Body, tc.status, tc.says)
		}
	}
	w := record(newApp(t, Options{}), "POST", eventsPath, strings.Repeat("x\n", 500))
	if n := strings.Count(w.Body.String(), `"line"`); n != maxReported || !strings.Contains(w.Body.String(), `"rejected":500`) {
		t.Errorf("listed %d of 500", n)
	}
}

func FuzzDecode(f *testing.F) {
	set, err := compileSchemas()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(v1Line))
	f.Add([]byte(v2Line))
	f.Add([]byte(`{"sdk":"1.0.0","ts":1e3}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, bad := set.decode(line)
		if bad == nil && e.check() != nil {
			t.Errorf("accepted %q as %+v: %v", line, e, e.check())
		}
		if bad != nil && bad.reason == "" {
			t.Errorf("refused %q without a reason", line)
		}
	})
}
