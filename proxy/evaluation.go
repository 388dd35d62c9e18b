package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// valueField is the member of a reply that is its number.
const valueField = "value"

// evaluation is an exchange as a worker sees it. It has subject, the key and the
// inputs to itself until the mail comes back, and writes scored and the errors;
// the lease is the shard's.
type evaluation Exchange

// figure is what an input's reply says, or a row of it.
type figure struct {
	Value *float64        `json:"value"`
	Exact bool            `json:"exact"`
	Key   json.RawMessage `json:"key"`
	From  json.RawMessage `json:"from"`
	To    json.RawMessage `json:"to"`

	read    bool
	members map[string]json.RawMessage // nil until some source wants more than Value
}

// Work reads the inputs, computes, and writes the reply's body.
func (e *evaluation) Work() {
	if e.subject.Rows != "" {
		t, several, err := e.table()
		if err != nil {
			e.inputErr = err
			return
		}
		if several {
			e.workRows(t)
			return
		}
	}
	e.workRow()
}

func (e *evaluation) workRow() {
	var room [MaxInputs]float64
	values := room[:len(e.subject.Inputs)]
	figures := make([]figure, len(e.inputs))
	for i := range values {
		s := e.subject.Source(i)
		at := e.inputOf(&s)
		var err error
		if values[i], err = figures[at].value(&s, e.inputs[at].body); err != nil {
			e.inputErr = fmt.Errorf("input %s: %w", s.Metric, err)
			return
		}
	}
	score, err := e.subject.Eval(values)
	if err != nil {
		e.scoreErr = err
		return
	}
	e.score = score
	e.scored = e.write(e.scored[:0], score, figures, values)
	if e.beside != nil {
		e.beside.Offer(e.Key.Tenant, e.subject, values, []float64{score})
	}
}

// inputOf returns which of the replies a source is in. An input is not copied: its
// exchange may end meanwhile, and drops it.
func (e *evaluation) inputOf(s *ModelSource) int {
	for i := range e.inputs {
		if e.inputs[i].metric == s.Metric {
			return i
		}
	}
	return -1 // every source's metric is an input
}

// value returns a source's value in text, which f is of.
func (f *figure) value(s *ModelSource, text []byte) (float64, error) {
	plain := s.Field == valueField && s.Read == nil
	if !f.read {
		f.read = true
		err := json.Unmarshal(text, f)
		if _, odd := errors.AsType[*json.UnmarshalTypeError](err); err != nil && (plain || !odd) {
			return 0, err
		}
	}
	if plain {
		if f.Value == nil {
			return 0, fmt.Errorf("the reply has no number %q", valueField)
		}
		return *f.Value, nil
	}
	if f.members == nil {
		if err := json.Unmarshal(text, &f.members); err != nil {
			return 0, err
		}
	}
	member := f.members[s.Field]
	if s.Read != nil {
		v, err := s.Read(member)
		if err != nil {
			return 0, fmt.Errorf("member %q: %w: %w", s.Field, errNotTaken, err)
		}
		return v, nil
	}
	var v *float64
	if member == nil || json.Unmarshal(member, &v) != nil || v == nil {
		return 0, fmt.Errorf("the reply has no number %q", s.Field)
	}
	return *v, nil
}

// write appends the reply. The number is in its shortest form that reads back
// to the same bits.
func (e *evaluation) write(dst []byte, score float64, figures []figure, values []float64) []byte {
	exact := true
	for i := range figures {
		exact = exact && figures[i].Exact
	}
	dst = appendJSON(append(dst, `{"tenant":`...), e.Key.Tenant)
	dst = appendJSON(append(dst, `,"metric":`...), e.Key.Metric)
	if f := &figures[0]; f.From != nil && f.To != nil {
		dst = append(append(dst, `,"from":`...), f.From...)
		dst = append(append(dst, `,"to":`...), f.To...)
	}
	dst = appendNumber(append(dst, `,"value":`...), score)
	dst = strconv.AppendBool(append(dst, `,"exact":`...), exact)
	dst = appendJSON(append(dst, `,"method":"model","model":`...), e.subject.Name)
	dst = append(dst, `,"inputs":`...)
	for i, v := range values {
		dst = append(appendJSON(append(dst, opener(i, '{')), e.subject.Inputs[i]), ':')
		dst = appendValue(dst, v)
	}
	return append(dst, "}}\n"...)
}

// opener is what stands before member i of a list or an object.
func opener(i int, first byte) byte {
	if i == 0 {
		return first
	}
	return ','
}

func appendValue(dst []byte, v float64) []byte {
	if math.IsNaN(v) { // it is missing
		return append(dst, "null"...)
	}
	return appendNumber(dst, v)
}

func appendJSON(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always encodes
		return append(dst, `""`...)
	}
	return append(dst, b...)
}

func appendNumber(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'g', -1, 64) }
