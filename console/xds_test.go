package console

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRuntimeModify: values come in the query or in a form, as Envoy takes them.
func TestRuntimeModify(t *testing.T) {
	var got map[string]string
	var why error
	h := New(Views{XDS: &XDS{SetRuntime: func(changes map[string]string) error { got = changes; return why }}})
	for _, tc := range []struct {
		method, target, form, origin string
		why                          error
		code                         int
		body                         string
		want                         map[string]string
	}{
		{method: "POST", target: "/runtime_modify?a.b=1&c=", code: 200, body: "OK\n", want: map[string]string{"a.b": "1", "c": ""}},
		{method: "POST", target: "/runtime_modify", form: "a=50%25", code: 200, body: "OK\n", want: map[string]string{"a": "50%"}},
		{method: "POST", target: "/runtime_modify", code: 400, body: "nothing to change"},
		{method: "POST", target: "/runtime_modify?=1", code: 400, body: "give every key a name"},
		{method: "POST", target: "/runtime_modify?a=1&a=2", code: 400, body: "stands there 2 times"},
		{method: "POST", target: "/runtime_modify?a=%zz", code: 400, body: "invalid URL escape"},
		{method: "GET", target: "/runtime_modify?a=1", code: 405, body: "use POST"},
		{method: "POST", target: "/runtime_modify?a=1", origin: "http://evil.example", code: 403},
		{method: "POST", target: "/runtime_modify?a=1", why: errors.New("no layer"), code: 503, body: "no layer", want: map[string]string{"a": "1"}},
	} {
		got, why = nil, tc.why
		r := httptest.NewRequest(tc.method, tc.target, strings.NewReader(tc.form))
		if tc.form != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.body) || !maps.Equal(got, tc.want) {
			t.Errorf("%s %s %q: %d %q with %v, want %d %q with %v", tc.method, tc.target, tc.form, w.Code, w.Body, got, tc.code, tc.body, tc.want)
		}
	}
	w := httptest.NewRecorder()
	New(Views{XDS: new(XDS)}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/runtime_modify?a=1", nil))
	if w.Code == http.StatusOK {
		t.Error("taken without a runtime")
	}
}
