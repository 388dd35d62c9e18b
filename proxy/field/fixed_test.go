package field

import "testing"

func TestFixed(t *testing.T) {
	var l List
	a, b := NewFixed("x-a", "1"), NewFixed("x-b", "")
	for range 2 {
		l.AddFixed(a)
		l.AddFixed(b)
	}
	for i, want := range [][2]string{{"x-a", "1"}, {"x-b", ""}, {"x-a", "1"}, {"x-b", ""}} {
		if string(l.Name(i)) != want[0] || string(l.Value(i)) != want[1] {
			t.Errorf("field %d: %q: %q, want %v", i, l.Name(i), l.Value(i), want)
		}
	}
	s := l.Spans()
	if s[0].Token != s[2].Token || s[0].Token == s[1].Token || s[0].Token <= 61 {
		t.Errorf("tokens %d, %d, %d: want one for each field", s[0].Token, s[1].Token, s[2].Token)
	}
	if first := Tokens(10); Tokens(1) != first+10 {
		t.Error("tokens were given out twice")
	}
}

func TestSetFixed(t *testing.T) {
	f := NewFixed("server", "envoy")
	var l List
	l.SetFixed(f) // there is none
	l.Add("date", "now")
	l.Add("server", "other")
	l.AddMarked([]byte("server"), []byte("third"), Mark{Static: 54})
	l.SetFixed(f)
	if l.Count("server") != 1 || string(l.Get("server")) != "envoy" || string(l.Get("date")) != "now" {
		t.Errorf("%d of them, first %q", l.Count("server"), l.Get("server"))
	}
	var other List
	other.AddMarked([]byte("server"), []byte("nghttpd"), Mark{Token: Tokens(1), Kind: 1, Static: 54})
	other.SetFixed(f)
	if a, b := l.Spans()[0], other.Spans()[0]; a.Token != b.Token || a.Token == 0 || b.Kind != 0 || b.Static != 54 {
		t.Errorf("marks %+v and %+v: want the field's token, and of the old value nothing but where its name stands", a.Mark, b.Mark)
	}
}

func TestSetOnce(t *testing.T) {
	var l List
	l.SetOnce("x-request-id", []byte("1"))
	if m := l.Spans()[0].Mark; m != (Mark{Literal: true}) {
		t.Errorf("added with %+v", m)
	}
	l.Reset()
	l.AddMarked([]byte("x-request-id"), []byte("theirs"), Mark{Token: Tokens(1), Kind: 1})
	l.Add("x-request-id", "second")
	l.SetOnce("x-request-id", []byte("2"))
	if m := l.Spans()[0].Mark; m != (Mark{Literal: true}) || l.Count("x-request-id") != 1 || string(l.Get("x-request-id")) != "2" {
		t.Errorf("%d of them, first %q with %+v", l.Count("x-request-id"), l.Get("x-request-id"), m)
	}
}
