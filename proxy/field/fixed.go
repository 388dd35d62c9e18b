package field

import "sync/atomic"

// tokens counts the tokens that were given out. The first are HPACK's static
// indices.
var tokens atomic.Uint64

func init() { tokens.Store(64) }

// Tokens reserves n tokens that nobody else gets and returns the first of them.
// It is safe for concurrent use.
func Tokens(n uint64) uint64 { return tokens.Add(n) - n }

// Fixed is a field that is added to many lists as it is: codecs know it again
// without looking at it. It is read-only and safe for concurrent use.
type Fixed struct {
	name string
	pair []byte
	mark Mark
}

// NewFixed returns a Fixed. The name must be lower-case. It is for fields that are
// few: each takes a place in the tables of every connection that it is sent on.
func NewFixed(name, value string) *Fixed {
	return &Fixed{name, append(make([]byte, 0, max(Slack, len(name)+len(value))), name+value...), Mark{Token: Tokens(1)}}
}

// AddFixed appends f.
func (l *List) AddFixed(f *Fixed) { l.AddPair(f.pair, len(f.name), f.mark) }

// SetFixed is Set for f.
func (l *List) SetFixed(f *Fixed) {
	if i := l.Index(f.name); i >= 0 {
		l.replace(i, f.name, f.pair[len(f.name):], f.mark)
		return
	}
	l.AddFixed(f)
}
