package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader/delta"
)

// model runs `quadnine model args` on the sidecar's admin port.
func (s *stand) model(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code = execute(s.t.Context(), append(append([]string{"model"}, args...), "--admin", s.side.AdminAddr()), &out, &errs)
	return code, out.String(), errs.String()
}

func TestModelIsRolledBackByHand(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	if code, out, errs := s.model("ls"); code != exitOK || !strings.HasPrefix(out, "no model yet: ") {
		t.Errorf("ls of nothing: exit %d %q %q", code, out, errs)
	}
	for n, w := range []weights{{2, 1}, {3, 1}} {
		dropVersion(t, dir, uint64(n)+1, w, delta.Canary{})
		for !s.modelState(uint64(n)+1, "active") {
			runtime.Gosched()
		}
	}
	answers := func(want string) {
		t.Helper()
		for i := range 50 {
			if _, version, a := s.score(c, fmt.Sprint("u", i)); a.status != http.StatusOK || version != want {
				t.Fatalf("%d by %q, want %s: %s", a.status, version, want, a.body)
			}
		}
	}
	answers("score@2")

	for name, bad := range map[string]struct {
		args []string
		code int
		says string
	}{
		"wrong version": {[]string{"score", "9"}, exitFailure, `: roll back score@9: no such version: there are: 1 \(standby\), 2 \(active\) \(status 404\)`},
		"the standby":   {[]string{"score", "1"}, exitFailure, `score@1: not possible right now: it is standby: only the canary or the active version`},
		"wrong model":   {[]string{"uplift", "1"}, exitFailure, `uplift@1: no such version: no model has that name; there are: score`},
		"no number":     {[]string{"score", "v2"}, exitUsage, `version "v2": want a number`},
		"no reason":     {[]string{"score", "2", "--reason", " "}, exitUsage, `--reason: say why`},
		"no version":    {[]string{"score"}, exitUsage, `accepts 2 arg.*; see quadnine model rollback --help`},
	} {
		code, out, errs := s.model(append([]string{"rollback"}, bad.args...)...)
		if code != bad.code || out != "" || !regexp.MustCompile(bad.says).MatchString(errs) {
			t.Errorf("%s: exit %d %q %q, want %d %q", name, code, out, errs, bad.code, bad.says)
		}
	}
	post := "http://" + s.side.AdminAddr() + "/models/score/versions/2/rollback?reason=x"
	s.do(http.DefaultClient, http.MethodPost, post, nil, "Origin", "http://evil.example").has(t, http.StatusForbidden, "origin http://evil.example is foreign here")
	s.do(http.DefaultClient, http.MethodPost, post, nil).has(t, http.StatusForbidden, "no Origin header")
	answers("score@2")

	code, out, errs := s.model("rollback", "score", "2", "--reason", "by hand")
	if code != exitOK || out != "score@2 is rolled back and will not be tried again: by hand\n" {
		t.Fatalf("rollback: exit %d %q %q", code, out, errs)
	}
	answers("score@1")
	if page := s.admin("/models"); !regexp.MustCompile(`@2 +refused .*: by hand\n`).MatchString(page) {
		t.Errorf("/models\n%s", page)
	}
	const counted = `quadnine_model_verdicts_total{verdict="rollback"}`
	if n := sample(t, s.admin("/stats/prometheus"), counted); n != 1 {
		t.Errorf("%s is %v, want 1", counted, n)
	}
	code, out, errs = s.model("ls")
	if code != exitOK || !regexp.MustCompile(`(?m)^MODEL +VERSION +STATE .*\nscore +1 +active +100 % .*\nscore +2 +refused.* by hand\n`).MatchString(out) {
		t.Errorf("ls: exit %d %q\n%s", code, errs, out)
	}
	code, out, errs = s.model("ls", "--format", "json")
	var list modelList
	if err := json.Unmarshal([]byte(out), &list); code != exitOK || err != nil || len(list.Models) != 1 ||
		len(list.Models[0].Refused) != 1 || list.Models[0].Refused[0].Reason != "by hand" {
		t.Errorf("ls --format json: exit %d %q %v\n%s", code, errs, err, out)
	}
	for version, says := range map[string]string{"2": "it was taken back already: by hand", "1": "no other version is mapped to answer instead"} {
		if code, _, errs := s.model("rollback", "score", version); code != exitFailure || !strings.Contains(errs, says) {
			t.Errorf("rollback %s: exit %d %q, want %q", version, code, errs, says)
		}
	}
	answers("score@1")
	if n := sample(t, s.admin("/stats/prometheus"), counted); n != 1 {
		t.Errorf("after two that were refused %s is %v, want 1", counted, n)
	}
}

func TestModelAdminSaysWhatIsMissing(t *testing.T) {
	s := newStand(t, standConfig{})
	for _, args := range [][]string{{"ls"}, {"rollback", "score", "2"}} {
		code, out, errs := s.model(args...)
		if code != exitFailure || out != "" || !strings.Contains(errs, "has no models: start it with --models DIR") {
			t.Errorf("%v without models: exit %d %q %q", args, code, out, errs)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"ls", "--admin", closed}, exitFailure, "is a sidecar running with --admin " + closed},
		{[]string{"rollback", "score", "2", "--admin", closed}, exitFailure, "is a sidecar running with --admin " + closed},
		{[]string{"ls", "--admin", "nine"}, exitUsage, `--admin "nine": want host:port`},
		{[]string{"ls", "--format", "yaml"}, exitUsage, `--format "yaml": use text or json`},
		{[]string{"ls", "score"}, exitUsage, "see quadnine model ls --help"},
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"model"}, tc.args...), &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%v: exit %d %q, want %d %q", tc.args, code, errs.String(), tc.code, tc.says)
		}
	}
}

// Who asked for a rollback and got no answer must look, not guess.
func TestModelRollbackUnanswered(t *testing.T) {
	for name, tc := range map[string]struct {
		interrupt bool
		code      int
	}{"cut off": {false, exitFailure}, "interrupted": {true, exitInterrupted}} {
		ctx, cancel := context.WithCancel(t.Context())
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if tc.interrupt {
				cancel()
				<-r.Context().Done()
			}
			panic(http.ErrAbortHandler)
		}))
		var out, errs bytes.Buffer
		code := execute(ctx, []string{"model", "rollback", "score", "2", "--admin", srv.Listener.Addr().String()}, &out, &errs)
		if code != tc.code || out.Len() != 0 || !strings.Contains(errs.String(), "it may be rolled back or not: look with quadnine model ls") {
			t.Errorf("%s: exit %d %q", name, code, errs.String())
		}
		srv.Close()
		cancel()
	}
}

func TestModelTable(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := modelList{[]console.Model{{
		Name:        "score",
		Versions:    []console.Version{{Number: 1, State: "active", Since: at, Leases: 3, Weight: 95}, {Number: 3, State: "unloading", Since: at, Leases: 1}, {Number: 4, State: "canary", Since: at, Weight: 5, Expect: "takes 160 s"}},
		Refused:     []console.Refused{{Number: 2, Reason: "by\x1bhand", At: at}, {Number: 3, Reason: "non-finite", At: at}},
		Quarantined: []console.Quarantine{{Drop: "v5", Reason: "wrong digest"}},
	}, {Quarantined: []console.Quarantine{{Drop: "x", Reason: "no JSON"}}}}}
	want := `MODEL  VERSION  STATE               CALLERS  LEASES  SINCE                 WHY
score  1        active              95 %     3       2026-01-02T03:04:05Z  
score  2        refused             -        -       2026-01-02T03:04:05Z  "by\x1bhand"
score  3        refused, unloading  0 %      1       2026-01-02T03:04:05Z  non-finite
score  4        canary              5 %      0       2026-01-02T03:04:05Z  takes 160 s
score  -        quarantined         -        -       -                     v5: wrong digest
-      -        quarantined         -        -       -                     x: no JSON
`
	var b bytes.Buffer
	if err := l.print(&b); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
}
