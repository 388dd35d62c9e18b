package statsapp

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Query asks for one metric of one tenant in [From, To).
type Query struct {
	Tenant string
	Metric string
	From   int64    // Unix milliseconds
	To     int64    // Unix milliseconds, at most MaxTime
	Approx bool     // HyperLogLog in place of the bitmap, for uv and ratio
	Event  string   // only events of this name; empty is all
	Steps  []string // the three event names of a funnel
	Step   int64    // milliseconds of a row; 0: no rows
}

// MaxRows bounds the rows of one answer.
const MaxRows = 1024

// Result is the answer to a Query. Its JSON is the same for the same data and
// query, byte for byte.
type Result struct {
	Tenant          string  `json:"tenant"`
	Metric          string  `json:"metric"`
	From            string  `json:"from"` // RFC 3339, UTC
	To              string  `json:"to"`
	Event           string  `json:"event,omitempty"`
	Value           float64 `json:"value"`
	Exact           bool    `json:"exact"`
	Method          string  `json:"method"` // count, sum, roaring, hyperloglog or scan
	Events          int64   `json:"events"` // events that the value rests on
	Steps           []Step  `json:"steps,omitempty"`
	Rows            []Row   `json:"rows,omitempty"` // of a query with a step; Value is of the whole range
	TotalDurationMS *int64  `json:"total_duration_ms,omitempty"`
}

// Step is one step of a funnel and how many users got that far.
type Step struct {
	Event string `json:"event"`
	Users int64  `json:"users"`
}

// Row is the value of one step of the range; the last one may be shorter.
type Row struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Value float64 `json:"value"`
}

func newResult(q Query) *Result {
	return &Result{
		Tenant: q.Tenant, Metric: q.Metric, Event: q.Event, Exact: true,
		From: formatTime(q.From), To: formatTime(q.To),
	}
}

// QueryError says which part of a query is wrong and why.
type QueryError struct {
	Field   string `json:"field"`
	Reason  string `json:"reason"`
	Unknown bool   `json:"-"` // the metric does not exist: 404 rather than 400
}

// Error returns "field: reason".
func (e *QueryError) Error() string { return e.Field + ": " + e.Reason }

func unknownMetric(name string) string {
	return fmt.Sprintf("%q is unknown; use pv, uv, ratio, funnel, avg_duration or a metric that events carry", name)
}

func (q *Query) check() error {
	switch {
	case q.Tenant == "":
		return &QueryError{Field: "tenant", Reason: "required: header x-tenant-id or parameter tenant"}
	case !validName(q.Tenant):
		return &QueryError{Field: "tenant", Reason: "want 1 to 64 of A-Z a-z 0-9 . _ -"}
	case q.Metric == "":
		return &QueryError{Field: "metric", Reason: "required: pv, uv, ratio, funnel, avg_duration or a metric that events carry"}
	case q.From < 0 || q.From >= MaxTime:
		return &QueryError{Field: "from", Reason: "want a time from 1970 to 2099"}
	case q.To > MaxTime:
		return &QueryError{Field: "to", Reason: "want a time no later than 2100-01-01T00:00:00Z"}
	case q.To <= q.From:
		return &QueryError{Field: "to", Reason: "must be later than from"}
	case q.Step < 0 || q.Step > MaxTime:
		return &QueryError{Field: "step", Reason: "want a duration above 0 and below 130 years, like 15m or 1h"}
	case q.Step > 0 && (q.To-q.From-1)/q.Step >= MaxRows:
		return &QueryError{Field: "step", Reason: fmt.Sprintf("makes %d rows, at most %d are answered: ask for a longer step or a shorter range", (q.To-q.From-1)/q.Step+1, MaxRows)}
	case q.Metric == "funnel" && (len(q.Steps) != 3 || q.Steps[0] == "" || q.Steps[1] == "" || q.Steps[2] == ""):
		return &QueryError{Field: "steps", Reason: "a funnel has three event names, like steps=view,cart,buy"}
	case q.Metric == "funnel" && q.Event != "":
		return &QueryError{Field: "event", Reason: "a funnel names its events in steps"}
	}
	return nil
}

// newQuery returns the query that asks for all of time.
func newQuery() Query { return Query{To: MaxTime} }

// fromURL takes what the parameters say. Parameters of other names are left
// alone, so that callers may add their own.
func (q *Query) fromURL(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return &QueryError{Field: "query", Reason: err.Error()}
	}
	for _, field := range []string{"tenant", "metric", "event", "from", "to", "approx", "steps", "step"} {
		v, ok := values[field]
		if !ok {
			continue
		}
		if len(v) > 1 {
			return &QueryError{Field: field, Reason: fmt.Sprintf("given %d times; once is enough", len(v))}
		}
		if err := q.set(field, v[0]); err != nil {
			return err
		}
	}
	return nil
}

func (q *Query) set(field, v string) (err error) {
	switch field {
	case "tenant":
		q.Tenant = v
	case "metric":
		q.Metric = v
	case "event":
		q.Event = v
	case "from":
		q.From, err = parseTime(field, v)
	case "to":
		q.To, err = parseTime(field, v)
	case "steps":
		q.Steps = strings.Split(v, ",")
	case "step":
		d, bad := time.ParseDuration(v)
		if q.Step = d.Milliseconds(); bad != nil || q.Step <= 0 {
			err = &QueryError{Field: field, Reason: fmt.Sprintf("%q: want a duration of 1ms or more, like 15m or 1h", v)}
		}
	case "approx":
		if q.Approx, err = strconv.ParseBool(v); err != nil {
			err = &QueryError{Field: field, Reason: fmt.Sprintf("%q: want true or false", v)}
		}
	}
	return err
}

// fromJSON takes what a POST's body says. Times may be strings or numbers,
// steps a list or one string with commas, as in the parameters.
func (q *Query) fromJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return &QueryError{Field: "body", Reason: "want one JSON object: " + err.Error()}
	}
	for _, field := range []string{"tenant", "metric", "event", "from", "to", "approx", "steps", "step"} {
		raw, ok := fields[field]
		if !ok {
			continue
		}
		var list []string
		if field == "steps" && json.Unmarshal(raw, &list) == nil {
			q.Steps = list
			continue
		}
		text, ok := scalar(field, raw)
		if !ok {
			return &QueryError{Field: field, Reason: "wrong JSON type: " + string(raw[:min(len(raw), 64)])}
		}
		if err := q.set(field, text); err != nil {
			return err
		}
	}
	return nil
}

// scalar returns the text of a JSON string, or of the number or boolean that
// the field may be instead.
func scalar(field string, raw json.RawMessage) (string, bool) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return string(raw), field == "from" || field == "to"
	case bool:
		return string(raw), field == "approx"
	}
	return "", false
}

func parseTime(field, v string) (int64, error) {
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
		return ms, nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return 0, &QueryError{Field: field, Reason: fmt.Sprintf("%q: want RFC 3339 (2026-01-31T12:00:00Z) or Unix milliseconds", v)}
	}
	return t.UnixMilli(), nil
}

func formatTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
}
