package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const activateTwo = "/models/score/versions/2/activate"

// activations returns a console whose Activate answers err, and what it was asked.
func activations(err error) (http.Handler, *[]string) {
	var asked []string
	v := sample()
	v.Rollback = func(context.Context, string, uint64, string) error { return nil }
	v.Activate = func(_ context.Context, model string, version uint64) error {
		asked = append(asked, fmt.Sprintf("%s@%d", model, version))
		return err
	}
	return New(v), &asked
}

func TestActivateAnswers(t *testing.T) {
	const own = "http://127.0.0.1:9901"
	for _, tc := range []struct {
		method, target, origin string
		err                    error
		code                   int
		body                   string
	}{
		{"POST", activateTwo, own, nil, 200, "score@2 is active\n"},
		{"POST", activateTwo, own, fmt.Errorf("%w: not held", ErrNoVersion), 404, "console: activate score@2: no such version: not held\n"},
		{"POST", activateTwo, own, fmt.Errorf("%w: it is active", ErrState), 409, "console: activate score@2: not possible right now: it is active\n"},
		{"POST", activateTwo, own, errors.New("disk\nfull"), 500, "console: activate score@2: \"disk\\nfull\"\n"},
		{"POST", "/models/score/versions/two/activate", own, nil, 400, "console: version two: want a number, as /models lists them\n"},
		{"POST", activateTwo, "http://evil.example", nil, 403, "console: /models/score/versions/2/activate: origin http://evil.example is foreign here"},
		{"GET", activateTwo, own, nil, 405, "console: GET /models/score/versions/2/activate: this changes what answers: use POST\n"},
	} {
		h, asked := activations(tc.err)
		w := send(h, tc.method, tc.target, "127.0.0.1:9901", tc.origin)
		if w.Code != tc.code || !strings.HasPrefix(w.Body.String(), tc.body) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.target, w.Code, w.Body, tc.code, tc.body)
		}
		if called := tc.code == 200 || tc.code == 404 || tc.code == 409 || tc.code == 500; called != (len(*asked) == 1) {
			t.Errorf("%s %s: asked %q", tc.method, tc.target, *asked)
		}
	}
	h, _ := activations(nil)
	if got := get(t, h, "/"); !strings.Contains(got, "POST "+activatePath) {
		t.Errorf("index\n%s", got)
	}
	if w := send(New(sample()), http.MethodPost, activateTwo, "127.0.0.1:9901", own); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("without the view: %d", w.Code)
	}
}
