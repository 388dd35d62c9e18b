package differential

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// difference is one thing in which two answers differ.
type difference struct {
	aspect      string // "status", "response x-a", "upstream x-b", …
	envoy, ours string
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// passing are response fields whose value says when, or which connection.
var passing = map[string]bool{"date": true, "x-envoy-upstream-service-time": true, "content-length": true}

// diff compares two answers. The status, what came upstream, fields and body.
func diff(r *request, envoy, ours answer) (out []difference) {
	add := func(aspect, e, o string) {
		if e != o {
			out = append(out, difference{aspect, e, o})
		}
	}
	add("error", class(envoy.err), class(ours.err))
	add("status", itoa(envoy.status), itoa(ours.status))
	if envoy.err == "" && ours.err == "" && envoy.status == ours.status {
		out = append(out, diffFields("response", envoy.header, ours.header, func(name string) bool { return passing[name] && !r.keep[name] })...)
		out = append(out, diffFields("trailer", envoy.trailer, ours.trailer, func(string) bool { return false })...)
	}
	if envoy.echo == nil || ours.echo == nil {
		add("backend", backendOf(envoy), backendOf(ours))
		if envoy.echo == nil && ours.echo == nil {
			add("body", bodyClass(envoy.body), bodyClass(ours.body))
		}
		return out
	}
	e, o := envoy.echo, ours.echo
	add("backend", e.Backend, o.Backend)
	add("upstream method", e.Method, o.Method)
	add("upstream authority", e.Authority, o.Authority)
	add("upstream path", e.Path, o.Path)
	add("upstream protocol", e.Protocol, o.Protocol)
	add("upstream body", e.Body, o.Body)
	return append(out, diffFields("upstream", e.Headers, o.Headers, func(string) bool { return false })...)
}

func backendOf(a answer) string {
	if a.echo != nil {
		return a.echo.Backend
	}
	return a.header.Get("X-Backend")
}

// class is which error a client saw; texts are Go's and name ports.
func class(err string) string {
	for _, part := range []string{"EOF", "connection reset", "broken pipe"} {
		if strings.Contains(err, part) {
			return "connection closed" // which of them is seen depends on what was under way
		}
	}
	for _, part := range []string{"deadline exceeded", "larger than peer's advertised limit", "REFUSED_STREAM", "INTERNAL_ERROR", "PROTOCOL_ERROR", "CANCEL", "connection refused", "GOAWAY", "malformed"} {
		if strings.Contains(err, part) {
			return part
		}
	}
	return err
}

// bodyClass is what a local reply says, whoever says it.
func bodyClass(body string) string {
	for _, part := range []string{"upstream connect error", "upstream request timeout", "stream timeout", "no healthy upstream", "unhealthy", "overflow"} {
		if strings.Contains(body, part) {
			return part
		}
	}
	if len(body) > 300 {
		return fmt.Sprintf("%d bytes", len(body))
	}
	return body
}

// diffFields compares header lists by name. Values that are drawn are compared
// by their form; fields that pass says are transient by presence only.
func diffFields(where string, envoy, ours http.Header, transient func(name string) bool) (out []difference) {
	names := slices.Sorted(maps.Keys(envoy))
	for n := range ours {
		if _, ok := envoy[n]; !ok {
			names = append(names, n)
		}
	}
	for _, n := range names {
		name := strings.ToLower(n)
		e, o := value(envoy[n]), value(ours[n])
		if transient(name) && (e == "(none)") == (o == "(none)") {
			continue
		}
		if name == "content-length" && (e == "0") != (o == "0") && (e == "(none)" || o == "(none)") {
			continue // an empty body's length may be left out
		}
		if e != o {
			out = append(out, difference{where + " " + name, e, o})
		}
	}
	return out
}

func value(v []string) string {
	if v == nil {
		return "(none)"
	}
	w := slices.Clone(v)
	for i := range w {
		if uuid.MatchString(w[i]) && !strings.HasPrefix(w[i], "00000000") {
			w[i] = "(uuid)"
		}
	}
	return strings.Join(w, " | ")
}

// critical is the value that χ² passes once in 1,000, by degrees of freedom.
var critical = []float64{0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12}

// diffCounts compares two distributions: two samples of one law differ by more
// than the critical value once in 1,000.
func diffCounts(envoy, ours map[string]int) []difference {
	keys := make(map[string]bool)
	var n, m float64
	for k, c := range envoy {
		keys[k] = true
		n += float64(c)
	}
	for k, c := range ours {
		keys[k] = true
		m += float64(c)
	}
	var chi float64
	for k := range keys {
		a, b := float64(envoy[k]), float64(ours[k])
		d := a*m - b*n
		chi += d * d / (n * m * (a + b))
	}
	if df := len(keys) - 1; df > 0 && chi > critical[min(df, len(critical)-1)] {
		return []difference{{"distribution", fmt.Sprint(envoy), fmt.Sprintf("%v (χ² %.1f)", ours, chi)}}
	}
	return nil
}
