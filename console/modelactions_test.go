package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// rollbacks returns a console whose Rollback answers err, and what it was asked.
func rollbacks(err error) (http.Handler, *[]string) {
	var asked []string
	v := sample()
	v.Rollback = func(_ context.Context, model string, version uint64, reason string) error {
		asked = append(asked, fmt.Sprintf("%s@%d %s", model, version, reason))
		return err
	}
	return New(v), &asked
}

// send is what a browser would send to host for a page of origin's.
func send(h http.Handler, method, target, host string, origin ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	r.Header["Origin"] = origin
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const rollbackTwo = "/models/score/versions/2/rollback?reason=by+hand"

func TestRollbackIsRefusedToForeignPages(t *testing.T) {
	for _, tc := range []struct {
		name, host string
		origin     []string
		code       int
	}{
		{"own page", "127.0.0.1:9901", []string{"http://127.0.0.1:9901"}, 200},
		{"by name", "localhost:9901", []string{"http://localhost:9901"}, 200},
		{"by IPv6", "[::1]:9901", []string{"http://[::1]:9901"}, 200},
		{"default port", "127.0.0.1:80", []string{"http://127.0.0.1"}, 200},
		{"a program", "127.0.0.1:9901", nil, 403},
		{"foreign page", "127.0.0.1:9901", []string{"http://evil.example"}, 403},
		{"foreign port", "127.0.0.1:9901", []string{"http://127.0.0.1:8080"}, 403},
		{"other scheme", "127.0.0.1:9901", []string{"https://127.0.0.1:9901"}, 403},
		{"sandboxed page", "127.0.0.1:9901", []string{"null"}, 403},
		{"one of two", "127.0.0.1:9901", []string{"http://127.0.0.1:9901", "http://evil.example"}, 403},
		{"empty", "127.0.0.1:9901", []string{""}, 403},
		{"rebound name", "evil.example:9901", []string{"http://evil.example:9901"}, 403},
		{"much like it", "localhost.evil.example:9901", []string{"http://localhost.evil.example:9901"}, 403},
		{"no host", "", []string{"http://"}, 403},
	} {
		h, asked := rollbacks(nil)
		w := send(h, http.MethodPost, rollbackTwo, tc.host, tc.origin...)
		if w.Code != tc.code || (len(*asked) == 1) != (tc.code == 200) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q, asked %q; want %d", tc.name, w.Code, w.Body, *asked, tc.code)
		}
	}
}

func TestRollbackAnswers(t *testing.T) {
	for _, tc := range []struct {
		method, target string
		err            error
		code           int
		body           string
	}{
		{"POST", rollbackTwo, nil, 200, "score@2 is rolled back and will not be tried again: by hand\n"},
		{"POST", rollbackTwo, fmt.Errorf("%w: there are: 1", ErrNoVersion), 404, "console: roll back score@2: no such version: there are: 1\n"},
		{"POST", rollbackTwo, fmt.Errorf("%w: it is standby", ErrState), 409, "console: roll back score@2: not possible right now: it is standby\n"},
		{"POST", rollbackTwo, errors.New("disk\nfull"), 500, "console: roll back score@2: \"disk\\nfull\"\n"},
		{"POST", "/models/score/versions/two/rollback?reason=x", nil, 400, "console: version two: want a number, as /models lists them\n"},
		{"POST", "/models/score/versions/-2/rollback?reason=x", nil, 400, "console: version -2: want a number, as /models lists them\n"},
		{"POST", "/models/score/versions/2/rollback", nil, 400, "console: reason: say why"},
		{"POST", "/models/score/versions/2/rollback?reason=+", nil, 400, "console: reason: say why"},
		{"POST", "/models/score/versions/2/rollback?reason=%ff", nil, 400, "console: reason: say why"},
		{"POST", "/models/score/versions/2/rollback?reason=" + strings.Repeat("x", maxReason+1), nil, 400, "console: reason: say why"},
		{"GET", rollbackTwo, nil, 405, "console: GET /models/score/versions/2/rollback: a rollback changes what answers: use POST\n"},
		{"OPTIONS", rollbackTwo, nil, 405, "console: OPTIONS "},
		{"POST", "/models", nil, 405, "console: POST /models: the console only reads"},
	} {
		h, asked := rollbacks(tc.err)
		w := send(h, tc.method, tc.target, "127.0.0.1:9901", "http://127.0.0.1:9901")
		if w.Code != tc.code || !strings.HasPrefix(w.Body.String(), tc.body) {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.target, w.Code, w.Body, tc.code, tc.body)
		}
		if (tc.code == 400 || tc.code == 405) != (len(*asked) == 0) {
			t.Errorf("%s %s: asked %q", tc.method, tc.target, *asked)
		}
		if allow := w.Header().Get("Allow"); tc.code == 405 && tc.target == rollbackTwo && allow != "POST" {
			t.Errorf("%s: Allow %q", tc.method, allow)
		}
	}
	h, asked := rollbacks(nil)
	send(h, http.MethodPost, "/models/a%2Fb%20c/versions/7/rollback?reason=+why+", "127.0.0.1:9901", "http://127.0.0.1:9901")
	if len(*asked) != 1 || (*asked)[0] != "a/b c@7 why" {
		t.Errorf("asked %q", *asked)
	}
	if w := send(New(sample()), http.MethodPost, rollbackTwo, "127.0.0.1:9901", "http://127.0.0.1:9901"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("without the view: %d", w.Code)
	}
}

func TestIndexTellsOfTheRollback(t *testing.T) {
	h, _ := rollbacks(nil)
	if got := get(t, h, "/"); !strings.Contains(got, "POST "+rollbackPath) {
		t.Errorf("index\n%s", got)
	}
}
