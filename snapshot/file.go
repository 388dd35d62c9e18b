package snapshot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// File is quadnine.yaml. Its keys are the JSON names of the messages
// quadnine.policy.v1.TenantBreaker and ResponseCache; what is not set, or 0, has
// its default. Models is what the flags --model-* say.
type File struct {
	TenantBreaker *TenantBreaker `yaml:"tenantBreaker"`
	ResponseCache *ResponseCache `yaml:"responseCache"`
	Models        Models         `yaml:"models"`
}

// TenantBreaker is quadnine.policy.v1.TenantBreaker.
type TenantBreaker struct {
	FailureThreshold   uint32      `yaml:"failureThreshold"`
	FailureRatePercent float64     `yaml:"failureRatePercent"`
	MinRequests        uint32      `yaml:"minRequests"`
	Window             Duration    `yaml:"window"`
	OpenFor            Duration    `yaml:"openFor"`
	ProbeLease         Duration    `yaml:"probeLease"`
	SuccessThreshold   uint32      `yaml:"successThreshold"`
	MaxKeys            uint32      `yaml:"maxKeys"`
	MaxKeysPerTenant   uint32      `yaml:"maxKeysPerTenant"`
	MaxTenants         uint32      `yaml:"maxTenants"`
	DecayAfter         Duration    `yaml:"decayAfter"`
	Tenant             []SourceOne `yaml:"tenant"`
	Metric             []SourceOne `yaml:"metric"`
	RequireTenant      bool        `yaml:"requireTenant"`
	User               []SourceOne `yaml:"user"`
}

// SourceOne is quadnine.policy.v1.KeySource: exactly one of its fields is set.
type SourceOne struct {
	Header         string       `yaml:"header"`
	QueryParameter string       `yaml:"queryParameter"`
	PathSegment    *PathSegment `yaml:"pathSegment"`
	GrpcMethod     *GrpcMethod  `yaml:"grpcMethod"`
}

// PathSegment is quadnine.policy.v1.KeySource.PathSegment.
type PathSegment struct {
	Index uint32 `yaml:"index"`
}

// GrpcMethod is quadnine.policy.v1.KeySource.GrpcMethod.
type GrpcMethod struct{}

// ResponseCache is quadnine.policy.v1.ResponseCache.
type ResponseCache struct {
	TTL             Duration `yaml:"ttl"`
	MaxBytes        int64    `yaml:"maxBytes"`
	MaxBodyBytes    uint32   `yaml:"maxBodyBytes"`
	IdentityHeaders []string `yaml:"identityHeaders"`
}

// Duration is a google.protobuf.Duration in JSON: "30s", "0.5s".
type Duration time.Duration

var durationForm = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?s$`)

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || !durationForm.MatchString(n.Value) {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is no duration: write seconds with an s, like 30s or 0.5s", n.Line, n.Value)}}
	}
	v, err := time.ParseDuration(n.Value)
	*d = Duration(v)
	return err
}

// Parse reads quadnine.yaml. name is what errors call the file. Every error says
// file:line, what is wrong and what is expected; all that can be found in one
// go are joined.
func Parse(name string, data []byte) (*File, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return &File{}, nil // an empty file sets nothing
		}
		return nil, located(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds a second document: keep one, without a line ---", name)
	}
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	f := new(File)
	if err := strict.Decode(f); err != nil {
		return nil, located(name, err)
	}
	if _, err := f.settings(); err != nil {
		return nil, fieldErrors(name, &root, err)
	}
	return f, nil
}

var (
	yamlLine     = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`(?s)^field (.+) not found in type snapshot\.(\w+)$`)
	wrongType    = regexp.MustCompile("(?s)^cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.*)$")
)

// located rewrites the YAML reader's messages as file:line: what, what next.
func located(name string, err error) error {
	lines := []string{err.Error()}
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		lines = te.Errors
	}
	var out []error
	for _, l := range lines {
		m := yamlLine.FindStringSubmatch(l)
		if m == nil {
			out = append(out, fmt.Errorf("%s: %s", name, strings.TrimPrefix(l, "yaml: ")))
			continue
		}
		what := m[2]
		if u := unknownField.FindStringSubmatch(what); u != nil {
			known := cmp.Or(strings.Join(knownFields[u[2]], ", "), "nothing")
			what = fmt.Sprintf("unknown field %q; known here: %s", u[1], known)
		} else if t := wrongType.FindStringSubmatch(what); t != nil {
			got := cmp.Or(kinds[t[1]], t[1])
			if t[2] != "" {
				got += " " + strconv.Quote(t[2])
			}
			what = fmt.Sprintf("wrong type: got %s, want %s", got, goKinds(t[3]))
		}
		out = append(out, fmt.Errorf("%s:%s: %s", name, m[1], what))
	}
	return errors.Join(out...)
}

var kinds = map[string]string{"str": "text", "int": "number", "float": "number", "bool": "true/false", "map": "a mapping", "seq": "a list", "null": "nothing"}

func goKinds(t string) string {
	switch {
	case t == "uint32":
		return "a whole number from 0 to 4294967295"
	case strings.HasPrefix(t, "int"):
		return "a whole number"
	case strings.HasPrefix(t, "float"):
		return "a number"
	case t == "bool":
		return "true or false"
	case t == "string":
		return "text"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	default:
		return "a mapping"
	}
}

var knownFields = map[string][]string{
	"File":          {"tenantBreaker", "responseCache", "models"},
	"TenantBreaker": {"failureThreshold", "failureRatePercent", "minRequests", "window", "openFor", "probeLease", "successThreshold", "maxKeys", "maxKeysPerTenant", "maxTenants", "decayAfter", "tenant", "metric", "requireTenant", "user"},
	"SourceOne":     {"header", "queryParameter", "pathSegment", "grpcMethod"},
	"PathSegment":   {"index"},
	"ResponseCache": {"ttl", "maxBytes", "maxBodyBytes", "identityHeaders"},
}

// fieldError is a value that is out of bounds, by its path in the file.
type fieldError struct {
	path []string
	what string
}

func (e *fieldError) Error() string { return strings.Join(e.path, ".") + " " + e.what }

// fieldErrors adds the line at which each wrong field stands.
func fieldErrors(name string, root *yaml.Node, err error) error {
	var out []error
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, e := range joined.Unwrap() {
		fe, ok := errors.AsType[*fieldError](e)
		if !ok {
			out = append(out, fmt.Errorf("%s: %w", name, e))
			continue
		}
		out = append(out, fmt.Errorf("%s:%d: %w", name, lineOf(root, fe.path), fe))
	}
	return errors.Join(out...)
}

// lineOf returns the line of the deepest node on path.
func lineOf(n *yaml.Node, path []string) int {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := n.Line
	for _, p := range path {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == p {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(p); err == nil && i < len(n.Content) {
				next = n.Content[i]
				line = next.Line
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return line
}
