package statsapp

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schemas/event-1.json schemas/event-2.json
var schemaFiles embed.FS

// Why a line was refused, as the counters name it.
const (
	refusedJSON   = "json"   // not a JSON object
	refusedSDK    = "sdk"    // no schema for its SDK version
	refusedSchema = "schema" // its schema says no
	refusedLimit  = "limit"  // too long, or the tenant is full
)

// refusal is why one line was not taken.
type refusal struct {
	class  string
	reason string
}

// schemas holds one compiled schema for each major version of the SDK. It is
// read-only.
type schemas map[string]*jsonschema.Schema

func compileSchemas() (schemas, error) {
	set := schemas{}
	for _, major := range []string{"1", "2"} {
		name := "schemas/event-" + major + ".json"
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat() // since draft 2019-09 "format" is a remark unless asked for
		if err := c.AddResource(name, doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if set[major], err = c.Compile(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return set, nil
}

// decode checks one line against the schema of its SDK version.
func (s schemas) decode(line []byte) (Event, *refusal) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return Event{}, &refusal{refusedJSON, "not JSON: " + err.Error()}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Event{}, &refusal{refusedJSON, "not a JSON object"}
	}
	sdk, ok := m["sdk"].(string)
	if !ok {
		return Event{}, &refusal{refusedSDK, "sdk: a version is required, like \"2.0.1\""}
	}
	major, _, _ := strings.Cut(sdk, ".")
	schema := s[major]
	if schema == nil {
		return Event{}, &refusal{refusedSDK, fmt.Sprintf("sdk: no schema for version %q; known are 1.x and 2.x", sdk)}
	}
	if err := schema.Validate(v); err != nil {
		return Event{}, &refusal{refusedSchema, explain(err)}
	}
	return fromFields(m)
}

// fromFields builds an event from fields that a schema has accepted.
func fromFields(m map[string]any) (Event, *refusal) {
	e := Event{Tenant: str(m["tenant"]), Metric: str(m["metric"]), Name: str(m["event"]), User: str(m["user"])}
	switch ts := m["ts"].(type) {
	case json.Number:
		e.At = integer(ts)
	case string:
		at, err := time.Parse(time.RFC3339, ts)
		if err != nil { // the format lets a leap second through, package time does not
			return Event{}, &refusal{refusedSchema, fmt.Sprintf("/ts: %q is no time that this service knows", ts)}
		}
		e.At = at.UnixMilli()
	}
	if d, ok := m["duration_ms"].(json.Number); ok {
		e.Timed, e.Duration = true, integer(d)
	}
	if err := e.check(); err != nil {
		return Event{}, &refusal{refusedSchema, strings.TrimPrefix(err.Error(), "statsapp: event: ")}
	}
	return e, nil
}

func str(v any) string { s, _ := v.(string); return s }

// integer reads a number that the schema calls an integer: "1e3" and "5.0" are
// integers too. The schemas' maxima are below 2^53, so float64 is exact.
func integer(n json.Number) int64 {
	f, _ := n.Float64()
	return int64(f)
}

// explain turns a validation error into one line: where and what, for each
// field that is wrong.
func explain(err error) string {
	ve, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err.Error()
	}
	var parts []string
	for _, unit := range ve.BasicOutput().Errors {
		if unit.Error == nil {
			continue
		}
		where := unit.InstanceLocation
		if where == "" {
			where = "/"
		}
		parts = append(parts, where+": "+unit.Error.String())
	}
	return strings.Join(parts, "; ")
}
