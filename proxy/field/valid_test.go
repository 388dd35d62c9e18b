package field

import (
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"
)

// wanted says what the rules are, in terms of x/net's reading of them. Ours
// differ on purpose in one thing: RFC 9113 section 8.2.1 forbids white space at
// a value's ends, which HTTP/1.1 strips and x/net allows.
func wanted(s string) (name, lowerName, value bool) {
	name = httpguts.ValidHeaderFieldName(s)
	lowerName = name && s == strings.ToLower(s)
	value = httpguts.ValidHeaderFieldValue(s) && s == strings.Trim(s, " \t")
	return name, lowerName, value
}

func check(t interface{ Errorf(string, ...any) }, s string) {
	name, lowerName, value := wanted(s)
	p := []byte(s)
	if got := ValidName(p); got != name {
		t.Errorf("ValidName(%q) = %v, want %v", s, got, name)
	}
	if got := ValidLowerName(p); got != lowerName {
		t.Errorf("ValidLowerName(%q) = %v, want %v", s, got, lowerName)
	}
	if got := ValidValue(p); got != value {
		t.Errorf("ValidValue(%q) = %v, want %v", s, got, value)
	}
}

// TestValidEveryByte: alone, first, in the middle and last.
func TestValidEveryByte(t *testing.T) {
	check(t, "")
	for c := range 256 {
		b := string([]byte{byte(c)})
		for _, s := range []string{b, b + "a", "a" + b + "a", "a" + b, "abcdefgh" + b + "a", "abc" + b + "defghijk"} {
			check(t, s)
		}
	}
}

func TestValidAgreesWithHTTPGuts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		check(rt, rapid.OneOf(
			rapid.StringMatching(`[ -~]{0,12}`),
			rapid.StringMatching(`[a-zA-Z0-9-]{0,12}`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(p []byte) string { return string(p) }),
			rapid.StringMatching(`[ \t]{0,2}[a-z]{0,4}[ \t]{0,2}`),
		).Draw(rt, "s"))
	})
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{"", "content-type", "Content-Type", "a b", " a", "a\t", "a\x00", "a\r\nb: c", "caf\xc3\xa9", "\x7f", ":path"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { check(t, s) })
}

func TestAppendLower(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Z0-9!#$%&'*+.^_|~-]{0,20}`).Draw(rt, "name")
		got := AppendLower([]byte("x: "), []byte(name))
		if want := "x: " + strings.ToLower(name); string(got) != want {
			rt.Fatalf("%q, want %q", got, want)
		}
	})
	for c := range 256 { // what is no capital letter stays, valid or not
		want := byte(c)
		if 'A' <= c && c <= 'Z' {
			want += 'a' - 'A'
		}
		if got := AppendLower(nil, []byte{byte(c)}); len(got) != 1 || got[0] != want {
			t.Errorf("byte %#x becomes %q, want %#x", c, got, want)
		}
	}
}

func TestASCII(t *testing.T) {
	for n := range 20 {
		b := make([]byte, n)
		if !ASCII(b) {
			t.Errorf("%d zeros", n)
		}
		for i := range b {
			b[i] = 0x7f
			if !ASCII(b) {
				t.Errorf("0x7f at %d of %d", i, n)
			}
			b[i] = 0x80
			if ASCII(b) {
				t.Errorf("0x80 at %d of %d", i, n)
			}
			b[i] = 'a'
		}
	}
}
