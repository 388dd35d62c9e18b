package snapshot

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/policy"
)

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"unknown field":          {"tenantBraker:\n  window: 1s\n", `q.yaml:1: unknown field "tenantBraker"; known here: tenantBreaker, responseCache, models`},
		"unknown field, deeper":  {"responseCache:\n  ttl: 1s\n  max bytes: 1\n", `q.yaml:3: unknown field "max bytes"; known here: ttl, maxBytes, maxBodyBytes, identityHeaders`},
		"unknown in a source":    {"tenantBreaker:\n  tenant:\n    - pathSegment: {indx: 1}\n", `q.yaml:3: unknown field "indx"; known here: index`},
		"unknown in grpcMethod":  {"tenantBreaker:\n  metric:\n    - grpcMethod: {x: 1}\n", `q.yaml:3: unknown field "x"; known here: nothing`},
		"snake case":             {"tenantBreaker:\n  max_keys: 1\n", `q.yaml:2: unknown field "max_keys"; known here: ` + strings.Join(knownFields["TenantBreaker"], ", ")},
		"text for a number":      {"tenantBreaker:\n  minRequests: many\n", `q.yaml:2: wrong type: got text "many", want a whole number from 0 to 4294967295`},
		"below zero":             {"tenantBreaker:\n  maxKeys: -1\n", `q.yaml:2: wrong type: got number "-1", want a whole number from 0 to 4294967295`},
		"lines for a number":     {"responseCache:\n  maxBodyBytes: |\n    a\n    b\n", `q.yaml:2: wrong type: got text "a\nb\n", want a whole number from 0 to 4294967295`},
		"text for true or false": {"tenantBreaker:\n  requireTenant: maybe\n", `q.yaml:2: wrong type: got text "maybe", want true or false`},
		"mapping for a list":     {"tenantBreaker:\n  tenant: {header: x}\n", `q.yaml:2: wrong type: got a mapping, want a list`},
		"list for all":           {"[]", `q.yaml:1: wrong type: got a list, want a mapping`},
		"number for a mapping":   {"responseCache: 7\n", `q.yaml:1: wrong type: got number "7", want a mapping`},
		"duration without s":     {"tenantBreaker:\n  window: 30\n", `q.yaml:2: "30" is no duration: write seconds with an s, like 30s or 0.5s`},
		"duration in ms":         {"tenantBreaker:\n  openFor: 500ms\n", `q.yaml:2: "500ms" is no duration: write seconds with an s, like 30s or 0.5s`},
		"duration below zero":    {"responseCache:\n  ttl: -1s\n", `q.yaml:2: "-1s" is no duration: write seconds with an s, like 30s or 0.5s`},
		"two documents":          {"responseCache: {}\n---\nresponseCache: {}\n", `q.yaml: holds a second document: keep one, without a line ---`},
		"no YAML":                {"a: [", `q.yaml:1: did not find expected node content`},
		"twice the same key":     {"responseCache: {ttl: 1s}\nresponseCache: {}\n", `q.yaml:2: mapping key "responseCache" already defined at line 1`},
		"out of bounds": {
			"tenantBreaker:\n  successThreshold: 9\n  window: 0.05s\nresponseCache:\n  maxBytes: 100\n",
			"q.yaml:3: tenantBreaker.window is 50ms: want 100ms to 8760h0m0s\n" +
				"q.yaml:2: tenantBreaker.successThreshold is 9: want 1 to 8\n" +
				"q.yaml:5: responseCache.maxBytes is 100: want 65536 to 1099511627776",
		},
		"list element out of bounds": {"responseCache:\n  identityHeaders:\n    - cookie\n    - X-Key\n", `q.yaml:4: responseCache.identityHeaders.1 is "X-Key": want a header field's name in lower case`},
		"header in capitals":         {"tenantBreaker:\n  tenant:\n    - queryParameter: t\n    - header: X-T\n", `q.yaml:4: tenantBreaker.tenant.1.header is "X-T": want a header field's name in lower case`},
		"header with a space":        {"tenantBreaker:\n  tenant: [header: x t]\n", `q.yaml:2: tenantBreaker.tenant.0.header is "x t": want a header field's name in lower case`},
		"no source":                  {"tenantBreaker:\n  metric: [{}]\n", `q.yaml:2: tenantBreaker.metric.0 sets 0 sources: want exactly one of header, queryParameter, pathSegment, grpcMethod`},
		"two sources":                {"tenantBreaker:\n  metric:\n    - header: a\n      queryParameter: b\n", `q.yaml:3: tenantBreaker.metric.0 sets 2 sources: want exactly one of header, queryParameter, pathSegment, grpcMethod`},
		"segment out of bounds":      {"tenantBreaker:\n  metric: [pathSegment: {index: 64}]\n", `q.yaml:2: tenantBreaker.metric.0.pathSegment has index 64: want 0 to 63`},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Parse("q.yaml", []byte(c.in))
			if err == nil || err.Error() != c.want || f != nil {
				t.Errorf("error %v\nwant  %s", err, c.want)
			}
		})
	}
}

// withFile compiles a Source with what text sets.
func withFile(t *testing.T, text string) settings {
	t.Helper()
	file, err := Parse("q.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := file.settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNothingSetIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n", "tenantBreaker:\nresponseCache:\n", "tenantBreaker: {}\nresponseCache: {}\n", "tenantBreaker: {window: null, maxKeys: 0}\n"} {
		s := withFile(t, text)
		if s.breaker != policy.DefaultBreakerConfig() || !reflect.DeepEqual(s.cache, policy.DefaultCacheConfig()) || !reflect.DeepEqual(s.keys, DefaultKeys()) {
			t.Errorf("%q changes a default: %+v", text, s)
		}
	}
}

func TestWhatIsSetIsUsed(t *testing.T) {
	s := withFile(t, `
tenantBreaker:
  failureThreshold: 7
  failureRatePercent: 12.5
  minRequests: 9
  window: 10s
  openFor: 0.25s
  probeLease: 3s
  successThreshold: 2
  maxKeys: 100
  maxKeysPerTenant: 10
  maxTenants: 5
  decayAfter: 60s
  requireTenant: true
  tenant: [header: x-org, pathSegment: {index: 3}, pathSegment: {}]
  metric: [grpcMethod: {}, queryParameter: m]
  user: [header: x-who]
responseCache:
  ttl: 5s
  maxBytes: 1000000
  maxBodyBytes: 1000
  identityHeaders: [x-user]
`)
	wantBreaker := policy.BreakerConfig{
		FailureThreshold: 7, FailureRatePercent: 12.5, MinRequests: 9, Window: 10 * time.Second, OpenFor: 250 * time.Millisecond,
		ProbeLease: 3 * time.Second, SuccessThreshold: 2, MaxKeys: 100, MaxKeysPerTenant: 10, MaxTenants: 5, DecayAfter: time.Minute,
	}
	if s.breaker != wantBreaker {
		t.Errorf("breaker %+v\nwant    %+v", s.breaker, wantBreaker)
	}
	wantCache := policy.CacheConfig{TTL: 5 * time.Second, MaxBytes: 1e6, MaxBodyBytes: 1000, IdentityHeaders: []string{"x-user"}}
	if !reflect.DeepEqual(s.cache, wantCache) {
		t.Errorf("cache %+v\nwant  %+v", s.cache, wantCache)
	}
	wantKeys := Keys{
		Tenant:        []KeySource{{Kind: FromHeader, Name: "x-org"}, {Kind: FromPathSegment, Index: 3}, {Kind: FromPathSegment}},
		Metric:        []KeySource{{Kind: FromGRPCMethod}, {Kind: FromQuery, Name: "m"}},
		User:          []KeySource{{Kind: FromHeader, Name: "x-who"}},
		RequireTenant: true,
	}
	if !reflect.DeepEqual(s.keys, wantKeys) {
		t.Errorf("keys %+v\nwant %+v", s.keys, wantKeys)
	}
}

// TestDefaultsNeverContradictWhatIsSet: one bound lowered alone is no error.
func TestDefaultsNeverContradictWhatIsSet(t *testing.T) {
	if c := withFile(t, "tenantBreaker: {maxKeys: 100}").breaker; c.MaxKeysPerTenant != 100 {
		t.Errorf("maxKeysPerTenant %d with maxKeys 100", c.MaxKeysPerTenant)
	}
	if c := withFile(t, "responseCache: {maxBytes: 65536}").cache; c.MaxBodyBytes != 32768 {
		t.Errorf("maxBodyBytes %d with maxBytes 65536", c.MaxBodyBytes)
	}
}

// yamlKeys returns the keys of a message's Go struct, in order.
func yamlKeys(v any) (keys []string) {
	for f := range reflect.TypeOf(v).Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

func TestKnownFieldsAreTheFields(t *testing.T) {
	for name, v := range map[string]any{"File": File{}, "TenantBreaker": TenantBreaker{}, "SourceOne": SourceOne{}, "PathSegment": PathSegment{}, "GrpcMethod": GrpcMethod{}, "ResponseCache": ResponseCache{}} {
		if got, want := knownFields[name], yamlKeys(v); !slices.Equal(got, want) {
			t.Errorf("%s: errors list %v, the struct has %v", name, got, want)
		}
	}
}

var (
	protoComment = regexp.MustCompile(`//[^\n]*`)
	protoToken   = regexp.MustCompile(`message\s+(\w+)\s*\{|oneof\s+\w+\s*\{|(?:repeated\s+)?[\w.]+\s+(\w+)\s*=\s*\d+\s*;|\{|\}`)
)

// protoFields returns the JSON names of the fields of every message in text.
func protoFields(text string) map[string][]string {
	messages := make(map[string][]string)
	var open []string // the message each open brace belongs to
	for _, m := range protoToken.FindAllStringSubmatch(protoComment.ReplaceAllString(text, ""), -1) {
		switch {
		case m[1] != "":
			open = append(open, m[1])
			messages[m[1]] = nil
		case m[0] == "}":
			open = open[:len(open)-1]
		case m[2] == "": // a oneof's fields are its message's
			open = append(open, open[len(open)-1])
		case len(open) > 0:
			name := open[len(open)-1]
			messages[name] = append(messages[name], lowerCamel(m[2]))
		}
	}
	return messages
}

// lowerCamel is a proto field's JSON name.
func lowerCamel(snake string) string {
	words := strings.Split(snake, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// TestKeysAreTheProtoFields holds YAML and proto together, in both directions:
// there is one schema.
func TestKeysAreTheProtoFields(t *testing.T) {
	files, err := filepath.Glob("../xds/api/quadnine/policy/v1/*.proto")
	if err != nil || len(files) == 0 {
		t.Fatalf("no .proto files: %v", err)
	}
	messages := make(map[string][]string)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(messages, protoFields(string(text)))
	}
	structs := map[string]any{"TenantBreaker": TenantBreaker{}, "ResponseCache": ResponseCache{}, "KeySource": SourceOne{}, "PathSegment": PathSegment{}, "GrpcMethod": GrpcMethod{}}
	for name, fields := range messages {
		v, ok := structs[name]
		if !ok {
			t.Errorf("message %s has no struct in this package", name)
			continue
		}
		keys := yamlKeys(v)
		for _, f := range fields {
			if !slices.Contains(keys, f) {
				t.Errorf("%s.%s of the .proto cannot be set in quadnine.yaml", name, f)
			}
		}
		for _, k := range keys {
			if !slices.Contains(fields, k) {
				t.Errorf("%s.%s of quadnine.yaml is not in the .proto", name, k)
			}
		}
	}
	for name := range structs {
		if _, ok := messages[name]; !ok {
			t.Errorf("%s has no message in the .proto files", name)
		}
	}
}

// FuzzParse: errors, never panics; every error's every line of its own names the
// file, and what parses compiles.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "null", "[]", "a: [", "tenantBreaker:\n  window: 30\n", "tenantBreaker: &a\n  tenant: [header: x]\nresponseCache: *a\n",
		"tenantBreaker:\n  window: 60s\n  tenant:\n    - pathSegment: {index: 70}\n    - {}\n",
		"models: &a\n  dir: x\n  keys: [a, *b]\n  share: *a\n", "models: {judge: {alpha: 1, beta: null}, pool: {server: x}, bucket: null, keys: [&b c, *b]}\n",
		"responseCache:\n  maxBytes: -5\n  identityHeaders: [a, a]\n", "a: 1\n---\nb: 2\n", "<<: {tenantBreaker: {maxKeys: 1}}\n", "\t", "\x00", "? [a]\n: b\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		file, err := Parse("q.yaml", p)
		if (file == nil) != (err != nil) {
			t.Fatalf("file %v with error %v", file, err)
		}
		if err != nil {
			errs := []error{err}
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				errs = joined.Unwrap()
			}
			for _, e := range errs {
				if !strings.HasPrefix(e.Error(), "q.yaml:") {
					t.Errorf("error does not name the file: %q", e)
				}
			}
			return
		}
		src := good()
		src.File = file
		if _, err := Compile(src); err != nil {
			t.Errorf("parses but does not compile: %v", err)
		}
	})
}
