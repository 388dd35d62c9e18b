package statsapp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// record asks app without a network.
func record(app *App, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, r)
	return w
}

const queryPath = "/api/v2/metrics/query"

func seededApp(t *testing.T) *App {
	t.Helper()
	app := newApp(t, Options{})
	if err := app.Seed(1, []string{"acme", "globex"}, 500); err != nil {
		t.Fatal(err)
	}
	return app
}

// POST asks the same as GET, in each of the forms that its fields may take.
func TestPostEqualsGet(t *testing.T) {
	app := seededApp(t)
	for _, tc := range []struct{ get, post string }{
		{"tenant=acme&metric=pv", `{"tenant":"acme","metric":"pv"}`},
		{"tenant=acme&metric=uv&approx=true", `{"tenant":"acme","metric":"uv","approx":true}`},
		{"tenant=acme&metric=uv&approx=1", `{"tenant":"acme","metric":"uv","approx":"1"}`},
		{"tenant=acme&metric=pv&event=buy&from=1767225600000&to=1767250000000", `{"tenant":"acme","metric":"pv","event":"buy","from":1767225600000,"to":"1767250000000"}`},
		{"tenant=acme&metric=ratio&from=2026-01-01T06:00:00Z&to=2026-01-01T18:00:00Z", `{"tenant":"acme","metric":"ratio","from":"2026-01-01T06:00:00Z","to":"2026-01-01T18:00:00Z"}`},
		{"tenant=acme&metric=funnel&steps=view,cart,buy", `{"tenant":"acme","metric":"funnel","steps":["view","cart","buy"]}`},
		{"tenant=acme&metric=funnel&steps=view,cart,buy", `{"tenant":"acme","metric":"funnel","steps":"view,cart,buy"}`},
	} {
		get := record(app, "GET", queryPath+"?"+tc.get, "")
		post := record(app, "POST", queryPath, tc.post)
		if get.Code != http.StatusOK || get.Body.String() != post.Body.String() {
			t.Errorf("GET %s: %d %s\nPOST %s: %d %s", tc.get, get.Code, get.Body, tc.post, post.Code, post.Body)
		}
		if l := get.Header().Get("Content-Length"); l != strconv.Itoa(get.Body.Len()) {
			t.Errorf("content-length %s, body %d", l, get.Body.Len())
		}
	}
}

func TestHeaderNamesTheTenantFirst(t *testing.T) {
	app := seededApp(t)
	for _, w := range []*httptest.ResponseRecorder{
		record(app, "GET", queryPath+"?tenant=acme&metric=pv", "", "x-tenant-id", "globex"),
		record(app, "POST", queryPath, `{"tenant":"acme","metric":"pv"}`, "x-tenant-id", "globex"),
		record(app, "GET", queryPath+"?metric=pv", "", "x-tenant-id", "globex"),
		record(app, "POST", queryPath+"?tenant=acme", `{"metric":"pv","tenant":"globex"}`),
	} {
		var r Result
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || r.Tenant != "globex" || r.Value != 500 {
			t.Errorf("%d %s (%v)", w.Code, w.Body, err)
		}
	}
	if n := app.Requests("globex"); n != 4 {
		t.Errorf("counted %d requests, want 4", n)
	}
}

func TestBadQueries(t *testing.T) {
	app := seededApp(t)
	for _, tc := range []struct {
		query, post string
		status      int
		field       string
	}{
		{query: "metric=pv", status: 400, field: "tenant"},
		{query: "tenant=a%20b&metric=pv", status: 400, field: "tenant"},
		{query: "tenant=acme", status: 400, field: "metric"},
		{query: "tenant=acme&metric=nope", status: 404, field: "metric"},
		{query: "tenant=nobody&metric=orders", status: 404, field: "metric"},
		{query: "tenant=acme&metric=pv&from=yesterday", status: 400, field: "from"},
		{query: "tenant=acme&metric=pv&from=-1", status: 400, field: "from"},
		{query: "tenant=acme&metric=pv&to=4102444800001", status: 400, field: "to"},
		{query: "tenant=acme&metric=pv&from=5&to=5", status: 400, field: "to"},
		{query: "tenant=acme&metric=uv&approx=perhaps", status: 400, field: "approx"},
		{query: "tenant=acme&metric=funnel", status: 400, field: "steps"},
		{query: "tenant=acme&metric=funnel&steps=a,b", status: 400, field: "steps"},
		{query: "tenant=acme&metric=funnel&steps=a,,c", status: 400, field: "steps"},
		{query: "tenant=acme&metric=funnel&steps=a,b,c&event=a", status: 400, field: "event"},
		{query: "tenant=acme&metric=pv&step=often", status: 400, field: "step"},
		{query: "tenant=acme&metric=pv&step=-1h", status: 400, field: "step"},
		{query: "tenant=acme&metric=pv&from=0&to=1025&step=1ms", status: 400, field: "step"},
		{query: "tenant=acme&tenant=globex&metric=pv", status: 400, field: "tenant"},
		{query: "tenant=acme&metric=%zz", status: 400, field: "query"},
		{post: `{"tenant":"acme","metric":"pv"`, status: 400, field: "body"},
		{post: `[]`, status: 400, field: "body"},
		{post: `{"tenant":7,"metric":"pv"}`, status: 400, field: "tenant"},
		{post: `{"tenant":"acme","metric":null}`, status: 400, field: "metric"},
		{post: `{"tenant":"acme","metric":"funnel","steps":{}}`, status: 400, field: "steps"},
		{post: `{"tenant":"acme","metric":"pv","pad":"` + strings.Repeat("x", maxQuery) + `"}`, status: 413, field: "body"},
	} {
		method := "GET"
		if tc.post != "" {
			method = "POST"
		}
		w := record(app, method, queryPath+"?"+tc.query, tc.post)
		var got struct {
			Error struct{ Field, Reason string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s%.40s: %v", tc.query, tc.post, err)
		}
		if w.Code != tc.status || got.Error.Field != tc.field || got.Error.Reason == "" {
			t.Errorf("%s%.40s: %d %+v; want %d, %s", tc.query, tc.post, w.Code, got.Error, tc.status, tc.field)
		}
	}
}

// A query with a step has a row for each, whose values are those of queries of its
// own; the value is that of the whole range.
func TestStepMakesRows(t *testing.T) {
	app := seededApp(t)
	for _, metric := range []string{"pv", "uv", "ratio", "avg_duration", "funnel&steps=view,cart,buy"} {
		get := func(query string) (r Result) {
			w := record(app, "GET", queryPath+"?tenant=acme&metric="+metric+query, "")
			if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%s%s: %d %s", metric, query, w.Code, w.Body)
			}
			return r
		}
		const from, to = SeedStart, SeedStart + 20*3600_000
		whole := get(fmt.Sprintf("&from=%d&to=%d&step=7h", from, to))
		if len(whole.Rows) != 3 || whole.Value != get(fmt.Sprintf("&from=%d&to=%d", from, to)).Value {
			t.Errorf("%s: %+v", metric, whole)
		}
		for i, row := range whole.Rows {
			begin := from + int64(i)*7*3600_000
			one := get(fmt.Sprintf("&from=%d&to=%d", begin, min(begin+7*3600_000, to)))
			if row != (Row{one.From, one.To, one.Value}) {
				t.Errorf("%s: row %d is %+v, want %+v", metric, i, row, one)
			}
		}
	}
}

func TestTenantWithoutEventsIsZero(t *testing.T) {
	app := newApp(t, Options{})
	for _, metric := range []string{"pv", "uv", "uv&approx=true", "ratio", "avg_duration", "funnel&steps=a,b,c"} {
		w := record(app, "GET", queryPath+"?tenant=nobody&metric="+metric, "")
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"value":0,`) {
			t.Errorf("%s: %d %s", metric, w.Code, w.Body)
		}
	}
}

// Queries and events of one tenant at the same time: nothing is lost, and the
// race detector has something to look at.
func TestQueriesWhileEventsCome(t *testing.T) {
	app := seededApp(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, e := range seeded(9, "acme", 200) {
				if err := app.Add(e); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				for _, metric := range []string{"uv", "uv&approx=true", "funnel&steps=view,cart,buy"} {
					if w := record(app, "GET", queryPath+"?tenant=acme&metric="+metric, ""); w.Code != http.StatusOK {
						t.Errorf("%d %s", w.Code, w.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	if r, err := app.Query(Query{Tenant: "acme", Metric: "pv", To: MaxTime}); err != nil || r.Value != 1300 {
		t.Errorf("%+v, %v; want 1300", r, err)
	}
}
