package compile

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// messages returns the messages that the table names, sorted.
func messages(t *testing.T) (out []protoreflect.MessageDescriptor) {
	t.Helper()
	names := make(map[string]bool)
	for _, part := range []map[string]message{routeFields, listenerFields, managerFields, clusterFields, assignmentFields, tlsFields, commonFields} {
		for name := range part {
			if names[name] {
				t.Errorf("%s stands in the table twice", name)
			}
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out = append(out, mt.Descriptor())
	}
	return out
}

// Every line of the table is about a field that there is.
func TestTableNamesFieldsThatExist(t *testing.T) {
	known := make(map[protoreflect.FullName]bool)
	for _, md := range messages(t) {
		for i := range md.Fields().Len() {
			known[md.Fields().Get(i).FullName()] = true
		}
	}
	for name, f := range table {
		if !known[name] {
			t.Errorf("%s: there is no such field", name)
		}
		if f.what != used && f.why == "" {
			t.Errorf("%s: give the reason, or what to do instead", name)
		}
	}
	for at := range places {
		if !known[at.field] {
			t.Errorf("%s inside %s: there is no such field", at.field, at.context)
		}
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(at.context); err != nil {
			t.Errorf("%s: %v", at.context, err)
		}
	}
}

// docs/xds-fields.md is this table.
func TestFieldsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Fields of xDS resources\n\n" +
		"What becomes of each field that a management server sets. *Used* takes effect, and a test observes it on the\n" +
		"wire: a case of `conformance/differential` (beside Envoy), a case or test of `xds/compile/observe_*_test.go`\n" +
		"(*observed*), or a test of the package named. *Ignored* is accepted, has no effect and is listed in\n" +
		"`/xds/status`; *named* is accepted too, and only tells people something or holds other fields. A resource that\n" +
		"sets a *refused* field is not taken, and the server is told the field's path. What is not listed here is\n" +
		"refused. Generated: `UPDATE=1 go test ./xds/compile`.\n")
	for _, md := range messages(t) {
		rows := fieldRows(md)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| field | | why, or what to do instead | test that observes it on the wire |\n|---|---|---|---|\n", md.FullName())
		for _, row := range rows {
			b.WriteString(row)
		}
	}
	golden(t, filepath.Join("..", "..", "docs", "xds-fields.md"), b.String())
}

// fieldRows are the lines of one message, in the order of its field numbers.
func fieldRows(md protoreflect.MessageDescriptor) (out []string) {
	var fields []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		fields = append(fields, md.Fields().Get(i))
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	for _, fd := range fields {
		out = append(out, fieldRow(string(fd.Name()), lookup(fd.FullName(), "")))
		var contexts []string
		for at := range places {
			if at.field == fd.FullName() {
				contexts = append(contexts, string(at.context))
			}
		}
		slices.Sort(contexts)
		for _, c := range contexts {
			out = append(out, fieldRow(string(fd.Name())+" in "+c[strings.LastIndexByte(c[:strings.LastIndexByte(c, '.')], '.')+1:], lookup(fd.FullName(), protoreflect.FullName(c))))
		}
	}
	return out
}

func fieldRow(name string, f field) string {
	what := [...]string{"refused", "ignored", "used", "named"}[f.what]
	if f.unless != "" {
		what += " unless " + f.unless
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", name, what, f.why, f.test)
}
