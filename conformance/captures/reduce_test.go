package captures

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/xds/compile"
)

// reduce takes the refused fields out of r until it is taken; false when what is
// left is no resource: a listener without its only filter, for one. It returns
// which fields went.
func (r *resource) reduce(t *testing.T, backend string) (gone []string, ok bool) {
	t.Helper()
	for range 6 {
		err := r.compile(t)
		if err == nil {
			return gone, r.api != "LDS" || manager(r) != nil
		}
		reasons := compile.Reasons(err)
		// The last element of a list goes first: the places of the others hold.
		slices.SortStableFunc(reasons, func(a, b *compile.Error) int { return cmp.Compare(natural(b.Path), natural(a.Path)) })
		supported := func(e *compile.Error) bool { return !strings.HasPrefix(e.Reason, "unsupported") }
		if !slices.ContainsFunc(reasons, func(e *compile.Error) bool { return !supported(e) }) {
			supported = func(*compile.Error) bool { return false } // what a field was taken out of went wrong
		}
		for _, e := range reasons {
			if supported(e) || e.Path == "" {
				continue
			}
			steps := split(e.Path)
			for len(steps) > 1 && !has(r.json, steps) {
				steps = steps[:len(steps)-1] // what lacks something that it needs
			}
			if steps[len(steps)-1] == "pipe" {
				steps = steps[:len(steps)-1]
				r.json = without(r.json, append(steps, "pipe"))
				put(r.json, steps, backend)
			} else {
				r.json = without(r.json, steps)
			}
			gone = append(gone, e.Path)
		}
	}
	return gone, false
}

// compile asks the compiler.
func (r *resource) compile(t *testing.T) error {
	t.Helper()
	wire, err := proto.Marshal(r.message(t))
	if err != nil {
		t.Fatal(err)
	}
	c := compile.New()
	switch r.api {
	case "CDS":
		_, _, err = c.Cluster(wire)
	case "EDS":
		_, _, _, err = c.Assignment(wire)
	case "LDS":
		_, _, err = c.Listener(wire)
	case "RDS":
		_, _, err = c.Routes(wire)
	default:
		err = errors.New("no such API")
	}
	return err
}

var step = regexp.MustCompile(`\["([^"]*)"\]|\[(\d+)\]|([^.\[\]]+)`)

// split takes a field path apart: names, and places as numbers.
func split(path string) (out []string) {
	for _, m := range step.FindAllStringSubmatch(path, -1) {
		out = append(out, m[1]+m[2]+m[3])
	}
	return out
}

var number = regexp.MustCompile(`\d+`)

// natural makes numbers in a path comparable.
func natural(path string) string {
	return number.ReplaceAllStringFunc(path, func(n string) string { return strings.Repeat("0", max(0, 9-len(n))) + n })
}

// has reports whether the path leads to something.
func has(v any, path []string) bool {
	for _, s := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[s]
		case []any:
			i, err := strconv.Atoi(s)
			if err != nil || i >= len(x) {
				return false
			}
			v = x[i]
		default:
			return false
		}
	}
	return v != nil
}

// without returns v without what the path leads to.
func without(v any, path []string) any {
	switch v := v.(type) {
	case map[string]any:
		x, ok := v[path[0]]
		switch {
		case !ok:
		case len(path) == 1:
			delete(v, path[0])
		default:
			v[path[0]] = without(x, path[1:])
		}
	case []any:
		i, err := strconv.Atoi(path[0])
		switch {
		case err != nil || i >= len(v):
		case len(path) == 1:
			return slices.Delete(v, i, i+1)
		default:
			v[i] = without(v[i], path[1:])
		}
		return v
	}
	return v
}

// put makes the address that the path leads to the backend's.
func put(v any, path []string, backend string) {
	for _, s := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[s]
		case []any:
			i, err := strconv.Atoi(s)
			if err != nil || i >= len(x) {
				return
			}
			v = x[i]
		}
	}
	if m, ok := v.(map[string]any); ok {
		m["socket_address"] = map[string]any{}
		move(m, backend)
	}
}
