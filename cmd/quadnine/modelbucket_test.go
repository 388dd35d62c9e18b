package main

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// bucketServer answers what an S3 server does to list, GET and PUT; what a real one
// does is conformance's.
func bucketServer(t *testing.T) (url string) {
	t.Helper()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_REGION": ""} {
		t.Setenv(name, value)
	}
	var mu sync.Mutex
	objects := make(map[string][]byte)
	etag := func(b []byte) string {
		sum := md5.Sum(b)
		return `"` + hex.EncodeToString(sum[:]) + `"`
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := strings.TrimPrefix(r.URL.Path, "/models/")
		switch {
		case r.Method == http.MethodPut:
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			objects[key] = b
			w.Header().Set("ETag", etag(b))
		case r.URL.Query().Has("list-type"):
			fmt.Fprint(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
			for _, k := range slices.Sorted(maps.Keys(objects)) {
				if strings.HasPrefix(k, r.URL.Query().Get("prefix")) {
					fmt.Fprintf(w, "<Contents><Key>%s</Key><LastModified>2026-01-02T03:04:05Z</LastModified><ETag>%s</ETag><Size>%d</Size></Contents>", k, etag(objects[k]), len(objects[k]))
				}
			}
			fmt.Fprint(w, "</ListBucketResult>")
		default:
			b := objects[key]
			w.Header().Set("ETag", etag(b))
			http.ServeContent(w, r, "", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), bytes.NewReader(b))
		}
	}))
	t.Cleanup(s.Close)
	return "s3://models/prod?addressing=path&endpoint=" + s.URL
}

// Versions that are pushed become active, answer with their own number, and any of
// them comes back by its number.
func TestModelsComeFromABucket(t *testing.T) {
	url, watched := bucketServer(t), t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: watched, store: t.TempDir(), bucket: bucketConfig{url: url, every: 100 * time.Millisecond, tier: time.Millisecond}}})
	c := s.client(true)
	for n, w := range []weights{{2, 1}, {3, 1}, {4, 1}} {
		version := uint64(n) + 1
		if version == 1 { // it is in the bucket once it is tiered
			dropVersion(t, watched, version, w, delta.Canary{})
			s.becomes(version, "active")
			continue
		}
		dir := t.TempDir()
		dropVersion(t, dir, version, w, delta.Canary{})
		list, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(list) != 1 {
			t.Fatalf("%v %v", list, err)
		}
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"model", "push", list[0], url}, &out, &errs); code != exitOK || !strings.HasPrefix(out.String(), fmt.Sprintf("s3://models/prod/score/%d: 2 files, ", version)) {
			t.Fatalf("push: exit %d %q %q", code, out.String(), errs.String())
		}
		out.Reset()
		if code := execute(t.Context(), []string{"model", "push", list[0], url}, &out, &errs); code != exitOK || !strings.HasSuffix(out.String(), ": is there already\n") {
			t.Fatalf("push again: exit %d %q %q", code, out.String(), errs.String())
		}
		s.becomes(version, "active")
	}
	answers := func(want string) {
		t.Helper()
		if _, version, a := s.score(c, "u"); a.status != http.StatusOK || version != want {
			t.Fatalf("%d by %q, want %s: %s", a.status, version, want, a.body)
		}
	}
	answers("score@3")
	s.becomes(1, "tiered")
	for !strings.Contains(s.admin("/stats/prometheus"), "\nquadnine_model_tiered_total 1\n") {
		runtime.Gosched()
	}
	code, out, errs := s.model("ls")
	if code != exitOK || !regexp.MustCompile(`score +1 +tiered .*s3://models/prod/score/1: quadnine model activate score 1 brings it back\n`).MatchString(out) {
		t.Errorf("ls: exit %d %q\n%s", code, errs, out)
	}
	for name, bad := range map[string]struct {
		args []string
		says string
	}{
		"the active one": {[]string{"score", "3"}, `activate score@3: not possible right now: it is active`},
		"not there":      {[]string{"score", "9"}, `activate score@9: no such version: s3://models/prod/score/9: the bucket does not hold it`},
		"wrong model":    {[]string{"uplift", "1"}, `activate uplift@1: no such version: s3://models/prod/uplift/1: the bucket does not hold it`},
	} {
		if code, out, errs := s.model(append([]string{"activate"}, bad.args...)...); code != exitFailure || out != "" || !strings.Contains(errs, bad.says) {
			t.Errorf("%s: exit %d %q %q, want %q", name, code, out, errs, bad.says)
		}
	}
	for _, n := range []string{"1", "2", "3"} { // from the bucket; standby or bucket; standby or bucket
		if code, out, errs := s.model("activate", "score", n); code != exitOK || out != "score@"+n+" is active\n" {
			t.Fatalf("activate %s: exit %d %q %q", n, code, out, errs)
		}
		answers("score@" + n)
	}
	page := s.admin("/stats/prometheus")
	for _, want := range []string{"quadnine_model_bucket_received_bytes_total", "quadnine_model_bucket_sent_bytes_total", "quadnine_model_bucket_listed_seconds", "quadnine_model_tiered_total", "quadnine_model_bucket_problems 0"} {
		if !strings.Contains(page, "\n"+want) || strings.Contains(page, "\n"+want+" 0\n") {
			t.Errorf("/stats/prometheus lacks %s, or it is 0", want)
		}
	}
}

func TestBucketFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--model-bucket-poll", "1s"}, "--model-bucket-poll: has no effect without --model-bucket"},
		{[]string{"--model-tier-after", "1h"}, "--model-tier-after: has no effect without --model-bucket"},
		{[]string{"--model-bucket", "s3://models", "--model-bucket-poll", "1ms"}, "want 100ms or more"},
		{[]string{"--model-bucket", "s3://models", "--model-tier-after", "-1s"}, "no negative time"},
		{[]string{"--model-bucket", "https://models"}, "--model-bucket: \"https://models\": is no URL of a bucket"},
		{[]string{"--model-bucket", "s3://models?regoin=x"}, `parameter "regoin": is unknown`},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1", "--model-store", t.TempDir()}, c.args...)
		if code := execute(t.Context(), args, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), c.says) {
			t.Errorf("%q: exit %d %q, want %q", c.args, code, errs.String(), c.says)
		}
	}
}
