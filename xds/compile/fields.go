package compile

import "google.golang.org/protobuf/reflect/protoreflect"

// disposition is what becomes of a field that is set.
type disposition uint8

const (
	refused disposition = iota // the resource is not taken; also for fields that the table does not name
	ignored                    // accepted without effect: it tunes or counts
	used
	named // accepted: it names something for people, or holds what has lines of its own
)

// field is one line of the table.
type field struct {
	what   disposition
	why    string // why it is ignored; what to do instead of what is refused
	unless string // a value that says what holds anyway: neither refused nor noted
	opened bool   // the compiler checks what is inside piece by piece
	test   string // what observes a used field on the wire
}

// use accepts a field that takes effect; test is what observes it on the wire.
// See TestUsedFieldsAreObserved for how tests are named.
func use(test string) field { return field{what: used, test: test} }

// part is use, for a field whose inside is checked piece by piece.
func part(test string) field { return field{what: used, test: test, opened: true} }

// label accepts a field that nothing acts on and nobody needs to be told of.
func label(why string) field { return field{what: named, why: why} }

// hold is label, for a message that says nothing but by its fields.
func hold() field { return label("what is inside counts") }

// skip accepts a field without effect.
func skip(why string) field { return field{what: ignored, why: why} }

// deny refuses a field.
func deny(hint string) field { return field{what: refused, why: hint} }

// denyUnless refuses a field unless it is set to value.
func denyUnless(value, hint string) field { return field{what: refused, why: hint, unless: value} }

// message is the fields of one message, by name.
type message map[string]field

// place is a field of a message inside a certain field of another.
type place struct{ context, field protoreflect.FullName }

var (
	table  = build(routeFields, listenerFields, managerFields, clusterFields, assignmentFields, tlsFields, commonFields)
	places = buildPlaces()
)

func build(parts ...map[string]message) map[protoreflect.FullName]field {
	out := make(map[protoreflect.FullName]field)
	for _, messages := range parts {
		for name, m := range messages {
			for f, entry := range m {
				out[protoreflect.FullName(name+"."+f)] = entry
			}
		}
	}
	return out
}

func buildPlaces() map[place]field {
	out := make(map[place]field)
	for context, messages := range placedFields {
		for name, m := range messages {
			for f, entry := range m {
				out[place{protoreflect.FullName(context), protoreflect.FullName(name + "." + f)}] = entry
			}
		}
	}
	return out
}

// missing is the entry of every field that the table does not name.
var missing = deny("unset it")

// lookup returns the entry of a field of a message that stands in context.
func lookup(name, context protoreflect.FullName) field {
	if context != "" {
		if f, ok := places[place{context, name}]; ok {
			return f
		}
	}
	if f, ok := table[name]; ok {
		return f
	}
	return missing
}

// Reasons that many fields share.
const (
	countsOnly = "it only counts"
	tunesOnly  = "it only tunes"
	noTLS      = "connections are plain text"
	noChecks   = "endpoints are not probed"
	noTTL      = "the system's resolver does not tell it: dns_refresh_rate holds"
)
