package proxy

import (
	"strconv"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

func TestNumbers(t *testing.T) {
	k := numbers{name: "x-n"}
	var l field.List
	token := func(n int64) uint64 {
		l.Reset()
		k.add(&l, n)
		if got := string(l.Get("x-n")); got != strconv.FormatInt(n, 10) {
			t.Fatalf("%q, want %d", got, n)
		}
		return l.Spans()[0].Token
	}
	for _, n := range []int64{0, 15000} {
		token(n)
		token(n)
		if a, b := token(n), token(n); a == 0 || a != b {
			t.Errorf("%d: tokens %d and %d: want one from the third time on", n, a, b)
		}
	}
	for n := range int64(10_000) { // in vain: bounded, and those that are known stay
		token(n)
		token(n)
		token(n)
	}
	if token(0) == 0 || token(15000) == 0 {
		t.Error("a number was forgotten")
	}
}
