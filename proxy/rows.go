package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Bounds of a query of several rows.
const (
	MaxRows    = 1 << 10 // of one query
	MaxNumbers = 1 << 14 // rows times inputs: 128 KiB
)

// MostRows returns how many rows a query may have of a version with so many
// inputs, of which it has one at least.
func MostRows(inputs int) int { return min(MaxRows, MaxNumbers/inputs) }

// table is what the replies to a query of several rows say.
type table struct {
	rows  [][]json.RawMessage // by reply, in the order of the exchange's inputs
	from  json.RawMessage     // of the first reply; nil: it does not say
	to    json.RawMessage
	exact bool // all replies are, their rows apart
}

// table takes the rows out of the replies. It reports false when no reply has
// any: then the query is of one row.
func (e *evaluation) table() (t table, several bool, err error) {
	name, most := e.subject.Rows, MostRows(len(e.subject.Inputs))
	t = table{rows: make([][]json.RawMessage, len(e.inputs)), exact: true}
	for i := range e.inputs {
		in := &e.inputs[i]
		var members map[string]json.RawMessage
		if err := json.Unmarshal(in.body, &members); err != nil {
			return t, false, fmt.Errorf("input %s: %w", in.metric, err)
		}
		list := members[name]
		has := list != nil && string(list) != "null"
		if i == 0 {
			several, t.from, t.to = has, members["from"], members["to"]
		}
		if has {
			if err := json.Unmarshal(list, &t.rows[i]); err != nil {
				return t, false, fmt.Errorf("input %s: member %q is no list of rows: %w", in.metric, name, err)
			}
		}
		n, first := len(t.rows[i]), len(t.rows[0])
		switch {
		case has != several && has:
			return t, false, fmt.Errorf("input %s: the reply has rows, member %q, that of input %s has none", in.metric, name, e.inputs[0].metric)
		case has != several:
			return t, false, fmt.Errorf("input %s: the reply has no rows, member %q, that of input %s has %d", in.metric, name, e.inputs[0].metric, first)
		case n > most:
			return t, false, fmt.Errorf("input %s: %w: the reply has %d rows, a query may have %d of this version with %d inputs (at most %d rows, and %d numbers): ask for fewer",
				in.metric, errNotTaken, n, most, len(e.subject.Inputs), MaxRows, MaxNumbers)
		case n != first:
			return t, false, fmt.Errorf("input %s: the reply has %d rows, that of input %s has %d", in.metric, n, e.inputs[0].metric, first)
		}
		t.exact = t.exact && string(members["exact"]) == "true"
	}
	return t, several, nil
}

// inexact reports whether a row says of itself that it is not exact; what is neither true
// nor null says so, too.
func (f *figure) inexact() bool {
	says := string(f.members["exact"]) // nil where Exact was read for sure
	return !f.Exact || says != "" && says != "true" && says != "null"
}

// rowPlace is what a row is of: the same in all replies.
type rowPlace struct{ key, from, to json.RawMessage }

func (f *figure) place() rowPlace { return rowPlace{f.Key, f.From, f.To} }

func (p *rowPlace) same(q *rowPlace) bool {
	return bytes.Equal(p.key, q.key) && bytes.Equal(p.from, q.from) && bytes.Equal(p.to, q.to)
}

// String tells of a place in an error.
func (p *rowPlace) String() string {
	return fmt.Sprintf("of key %.40s, from %.40s, to %.40s", orNull(p.key), orNull(p.from), orNull(p.to))
}

func orNull(text json.RawMessage) json.RawMessage {
	if text == nil {
		return json.RawMessage("null")
	}
	return text
}

// workRows computes all rows of a query in one call.
func (e *evaluation) workRows(t table) {
	n, k := len(t.rows[0]), len(e.subject.Inputs)
	numbers := make([]float64, n*(k+1))
	values, scores := numbers[:n*k], numbers[n*k:]
	places := make([]rowPlace, n)
	sources, from := make([]ModelSource, k), make([]int, k)
	for i := range sources {
		sources[i] = e.subject.Source(i)
		from[i] = e.inputOf(&sources[i])
	}
	figures := make([]figure, len(e.inputs))
	for r := range n {
		for i := range figures {
			figures[i] = figure{Exact: true} // a row need not say so
		}
		for i := range sources {
			var err error
			if values[r*k+i], err = figures[from[i]].value(&sources[i], t.rows[from[i]][r]); err != nil {
				e.inputErr = fmt.Errorf("input %s: %s[%d]: %w", sources[i].Metric, e.subject.Rows, r, err)
				return
			}
		}
		places[r] = figures[0].place()
		for i := range figures {
			t.exact = t.exact && !figures[i].inexact()
			if p := figures[i].place(); !p.same(&places[r]) {
				e.inputErr = fmt.Errorf("input %s: %s[%d] is %v, that of input %s %v: the rows of all replies must be of the same, in the same order",
					e.inputs[i].metric, e.subject.Rows, r, &p, e.inputs[0].metric, &places[r])
				return
			}
		}
	}
	if n > 0 {
		if e.scoreErr = e.subject.EvalRows(values, scores); e.scoreErr != nil {
			return
		}
	}
	e.listed, e.rows, e.score = true, n, mean(scores)
	e.scored = e.writeRows(e.scored[:0], &t, places, values, scores)
	if e.beside != nil && n > 0 {
		e.beside.Offer(e.Key.Tenant, e.subject, values, scores)
	}
}

// mean is what a query's rows are as one number: finite, as they are.
func mean(rows []float64) (sum float64) {
	for _, v := range rows {
		sum += v / float64(len(rows))
	}
	return max(-math.MaxFloat64, min(sum, math.MaxFloat64)) // quotients are rounded up, too
}

// writeRows appends the reply to a query of several rows.
func (e *evaluation) writeRows(dst []byte, t *table, places []rowPlace, values, scores []float64) []byte {
	dst = appendJSON(append(dst, `{"tenant":`...), e.Key.Tenant)
	dst = appendJSON(append(dst, `,"metric":`...), e.Key.Metric)
	if t.from != nil && t.to != nil {
		dst = append(append(dst, `,"from":`...), t.from...)
		dst = append(append(dst, `,"to":`...), t.to...)
	}
	dst = strconv.AppendBool(append(dst, `,"exact":`...), t.exact)
	dst = appendJSON(append(dst, `,"method":"model","model":`...), e.subject.Name)
	dst = append(dst, `,"rows":[`...)
	for r := range places {
		if r > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		for _, m := range [...]struct {
			name string
			text json.RawMessage
		}{{`"key":`, places[r].key}, {`"from":`, places[r].from}, {`"to":`, places[r].to}} {
			if m.text != nil {
				dst = append(append(append(dst, m.name...), m.text...), ',')
			}
		}
		dst = append(appendNumber(append(dst, `"value":`...), scores[r]), '}')
	}
	dst = append(dst, `],"inputs":`...)
	k := len(e.subject.Inputs)
	for i, name := range e.subject.Inputs {
		dst = append(appendJSON(append(dst, opener(i, '{')), name), ":["...)
		for r := range places {
			if r > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, values[r*k+i])
		}
		dst = append(dst, ']')
	}
	return append(dst, "}}\n"...)
}
