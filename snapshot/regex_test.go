package snapshot

import (
	"regexp"
	"strings"
	"testing"
)

func TestRegexRewriteReplacesEveryMatch(t *testing.T) {
	for _, c := range []struct{ pattern, substitution, path, want string }{
		{`^/service/([^/]+)(/.*)$`, `\2/instance/\1`, "/service/foo/v1/api", "/v1/api/instance/foo"},
		{`one`, `two`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{`^(.*?)one(.*)$`, `\1two\2`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
		{`(?i)/xxx/`, `/yyy/`, "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{`b`, `$1\\\0`, "/abc", `/a$1\bc`},
		{`(a)(b)?`, `[\1\2]`, "/aab", "/[a][ab]"},
		{`(a)`, `\1x`, "/a", "/ax"}, // not the group called 1x
		{`x*`, `-`, "/ax", "-/-a-"},
		// What Envoy 1.40 makes of mistakes.
		{`^/a`, `/x\3/y`, "/a/b", "/a/b"},
		{`^/a`, `/z\`, "/a/b", "/z/b"},
		{`^/a`, `\q`, "/a/b", "/b"},
		{`^/a`, `/k\q/l\0$`, "/a/b", "/k/b"},
		{`^/a`, `/k\q\1`, "/a/b", "/a/b"},
	} {
		re := regexp.MustCompile(c.pattern)
		s, _, err := Substitution(c.substitution, re.NumSubexp())
		if err != nil {
			t.Error(err)
			continue
		}
		r := &RegexRewrite{Pattern: re, Substitution: s}
		if got := string(r.Apply([]byte("was:"), []byte(c.path))); got != "was:"+c.want {
			t.Errorf("%s → %s of %s: %s, want %s", c.pattern, c.substitution, c.path, got, c.want)
		}
	}
}

func TestABadSubstitutionIsNamed(t *testing.T) {
	for s, want := range map[string]string{"a\nb": "byte 1", "\x00": "NUL", `\9` + "\r": "byte 2"} {
		if _, _, err := Substitution(s, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", s, err, want)
		}
	}
	for s, want := range map[string]string{`/\2`: "it has 1", `a\q`: "from byte 1", `a\`: "from byte 1", `\1\\`: ""} {
		if _, note, err := Substitution(s, 1); err != nil || !strings.Contains(note, want) || note != "" && want == "" {
			t.Errorf("%q: note %q, error %v, want %q in the note", s, note, err, want)
		}
	}
}

func TestWholeRegexp(t *testing.T) {
	re, err := WholeRegexp("/a|/ab")
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{"/a": true, "/ab": true, "/abc": false, "x/a": false, "/a\n": false} {
		if re.MatchString(s) != want {
			t.Errorf("%q matches: %v", s, !want)
		}
	}
	if re, err := WholeRegexp(`\Qa.`); err != nil || !re.MatchString("a.") || re.MatchString("ab") {
		t.Errorf("an open quotation: %v, %v", re, err)
	}
	for _, bad := range []string{"(", "a)(b", "(?=a)", "[", "a**"} {
		if _, err := WholeRegexp(bad); err == nil || strings.Contains(err.Error(), `\A`) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// FuzzLiteralStart: what every match is said to start with, it does.
func FuzzLiteralStart(f *testing.F) {
	for _, p := range []string{"/a.*", "/a|/ab", "(/a)+b", "(?i)/a", "^/x$", "/(?:a|b)c", "a{2,3}b", "", "(?m)^/a", "/\\x{fffd}", "(?U)/a+?"} {
		f.Add(p, "/a"+p)
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		re, err := WholeRegexp(pattern)
		if err != nil {
			return
		}
		if l := literalStart(re.String()); re.MatchString(text) && !strings.HasPrefix(text, l) {
			t.Errorf("%q matches %q, which does not start with %q", pattern, text, l)
		}
	})
}
