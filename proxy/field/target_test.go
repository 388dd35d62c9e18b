package field

import "testing"

func TestValidAuthority(t *testing.T) {
	for v, want := range map[string]bool{
		"a": true, "a.example:80": true, "a:": true, "127.0.0.1:1": true, "[::1]": true, "[::1]:80": true, "a%41": true, "_x~!$&'()*+,;=": true,
		"": false, ":80": false, "a:b": false, "a:80:80": false, "a:-1": false, "u@a": false, "u:p@a": false, "a/b": false, "a b": false, "a\x00": false,
		"[]": false, "[::1": false, "[::1]x": false, "[ ]": false, "a%4": false, "a%zz": false, "a[": false, "é": false, "a\r\nb": false,
	} {
		if got := ValidAuthority([]byte(v)); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

func TestValidPath(t *testing.T) {
	for v, want := range map[string]bool{
		"/": true, "/a?b=%20&c": true, "*": true, "/\xc3\xa9": true,
		"": false, "a": false, "**": false, "?": false, "/\x20": false, "/\t": false, "/\x7f": false, "/#": false, "/\r\n": false, "http://a/": false,
	} {
		if got := ValidPath([]byte(v)); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}
