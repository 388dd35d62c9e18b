package proxy

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/snapshot"
)

// TestPathsAsMeasured: testdata/paths.txt was recorded from Envoy.
func TestPathsAsMeasured(t *testing.T) {
	listeners := map[string]snapshot.HTTP{
		"redirect": {NormalizePath: true, MergeSlashes: true, EscapedSlashes: snapshot.UnescapeAndRedirect},
		"reject":   {NormalizePath: true, EscapedSlashes: snapshot.RejectEscaped},
		"forward":  {NormalizePath: true, MergeSlashes: true, EscapedSlashes: snapshot.UnescapeAndForward},
		"merge":    {MergeSlashes: true},
	}
	data, err := os.ReadFile("testdata/paths.txt")
	if err != nil {
		t.Fatal(err)
	}
	v, x := versionBench(t, nil)
	x.conn = &downConn{loop: v.loop, h2: true}
	n := 0
	for line := range strings.Lines(string(data)) {
		part := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(part) != 3 {
			continue
		}
		n++
		h := listeners[part[0]]
		x.isLocal = false
		x.req.Reset()
		x.req.Add(":path", part[1])
		got := "200 "
		switch p := decode(v).form(x, &h); {
		case p != nil:
			got = "400"
		case x.isLocal:
			got = "307 location: " + string(x.resp.Get("location"))
		default:
			got += string(x.req.Get(":path"))
		}
		if got != part[2] {
			t.Errorf("%s %q: got %q, want %q", part[0], part[1], got, part[2])
		}
	}
	if n < 1000 {
		t.Errorf("only %d paths", n)
	}
}

func FuzzPathForms(f *testing.F) {
	for _, s := range []string{"/a//b/../c", "/%2e%2e/%2f", "/a%B%41", "/\\..", "/%%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := []byte("/" + s)
		out, ok := canonicalPath(nil, p)
		if !ok {
			return
		}
		if out[0] != '/' {
			t.Fatalf("%q became %q", p, out)
		}
		for segment := range strings.SplitSeq(string(out), "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q became %q, with a dot segment", p, out)
			}
		}
		merged := mergeSlashes(nil, out)
		if bytes.Contains(merged, []byte("//")) && string(merged) != "//" {
			t.Fatalf("%q became %q", p, merged)
		}
	})
}
