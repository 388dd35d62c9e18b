package compile

import (
	"slices"
	"strconv"
	"strings"
)

// at is where in a resource something stands: a list from the leaf up, made into
// text only when somebody has to be told.
type at struct {
	up    *at
	field string
	nth   int    // index + 1 of a repeated field
	key   string // of a map
}

// f returns the field name below p.
func (p *at) f(name string) *at { return &at{up: p, field: name} }

// i returns the element n of the field name below p.
func (p *at) i(name string, n int) *at { return &at{up: p, field: name, nth: n + 1} }

// k returns the value under key of the map name below p.
func (p *at) k(name, key string) *at { return &at{up: p, field: name, key: key} }

// String returns p as virtual_hosts[0].routes[3].match.
func (p *at) String() string { return p.text(true) }

// kind returns p without its indexes and keys: what all alike fields share.
func (p *at) kind() string { return p.text(false) }

func (p *at) text(exact bool) string {
	var parts []*at
	for ; p != nil; p = p.up {
		parts = append(parts, p)
	}
	var b strings.Builder
	for _, part := range slices.Backward(parts) {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(part.field)
		switch {
		case part.nth > 0 && exact:
			b.WriteString("[" + strconv.Itoa(part.nth-1) + "]")
		case part.key != "" && exact:
			b.WriteString("[" + strconv.Quote(clip(part.key, 80)) + "]")
		case part.nth > 0 || part.key != "":
			b.WriteString("[]")
		}
	}
	return b.String()
}
