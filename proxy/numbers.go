package proxy

import (
	"strconv"

	"github.com/quadnine/quadnine/proxy/field"
)

// numbers adds a field of one name whose value is a number, mostly one of few:
// codecs know those again that come for the second time. They are bounded, and
// stay for as long as the loop.
type numbers struct {
	name  string
	fixed [16]struct {
		n     int64
		seen  bool // once
		field *field.Fixed
	}
}

func (k *numbers) add(l *field.List, n int64) {
	f := &k.fixed[uint64(n)*0x9e3779b97f4a7c15>>60] // 2^64/φ: time-outs are round numbers
	switch {
	case f.n == n && f.field != nil:
		l.AddFixed(f.field)
		return
	case f.field != nil:
	case f.n == n && f.seen:
		f.field = field.NewFixed(k.name, strconv.FormatInt(n, 10))
	default:
		f.n, f.seen = n, true
	}
	l.AddInt(k.name, n)
}
