package snapshot

import (
	"cmp"
	"slices"
)

// byField selects routes by the value of a field.
type byField struct {
	name   string
	values keyed
	lists  [][]uint32 // by the number of the value
}

// maxFields is how many fields a list is selected by. Each of them is a look-up
// for every request.
const maxFields = 4

// split moves the routes of l that want a field to be equal to something into
// lists by that value. Of several such fields the one with the most values is
// taken: it leaves the fewest candidates.
func (l *list) split(routes []*Route) {
	var fields []byField
	for _, n := range l.plain {
		for i := range routes[n].Match.Headers {
			m := &routes[n].Match.Headers[i]
			if !m.selects() {
				continue
			}
			at := slices.IndexFunc(fields, func(f byField) bool { return f.name == m.Name })
			if at < 0 {
				if len(fields) == 4*maxFields {
					continue // enough to choose from
				}
				at = len(fields)
				fields = append(fields, byField{name: m.Name, values: newKeyed(len(l.plain) * len(routes[n].Match.Headers))})
			}
			fields[at].values.put(hashOf(m.String.Value), m.String.Value)
		}
	}
	if len(fields) == 0 {
		return
	}
	slices.SortStableFunc(fields, func(a, b byField) int { return cmp.Compare(len(b.values.keys), len(a.values.keys)) })
	fields = fields[:min(len(fields), maxFields)]
	items, owner := make([][]uint32, len(fields)), make([][]uint32, len(fields))
	var rest []uint32
	for _, n := range l.plain {
		f, value := choose(fields, routes[n])
		if f < 0 {
			rest = append(rest, n)
			continue
		}
		items[f], owner[f] = append(items[f], n), append(owner[f], uint32(value))
	}
	for i := range fields {
		fields[i].lists = group(items[i], owner[i], len(fields[i].values.keys))
	}
	l.plain, l.fields = rest, fields
}

// choose returns the first of fields that r wants to be equal to something, and
// the number of that value; -1 when there is none.
func choose(fields []byField, r *Route) (field, value int) {
	for f := range fields {
		for i := range r.Match.Headers {
			if m := &r.Match.Headers[i]; m.Name == fields[f].name && m.selects() {
				return f, fields[f].values.find(hashOf(m.String.Value), []byte(m.String.Value), false)
			}
		}
	}
	return -1, 0
}
