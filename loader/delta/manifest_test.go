package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const rootText = "b3:0000000000000000000000000000000000000000000000000000000000000001"

const fullManifest = `{
  "model": "score", "version": 2, "schema_version": 1, "required_env": ["REGION", "_X"],
  "base": {"version": 1, "root": "b3:1000000000000000000000000000000000000000000000000000000000000001"},
  "target_root": "` + rootText + `",
  "files": [
    {"path": "v2.qd", "role": "delta", "size": 12, "blake3": "b3:2000000000000000000000000000000000000000000000000000000000000001"},
    {"path": "a/model.safetensors", "role": "full", "size": 0, "blake3": "` + rootText + `", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
  ],
  "eval": {"kind": "ratio", "metric": "score", "input": {"uv": {"metric": "uv"}, "pv": {"metric": "pv"}}, "weights": {"scale": "scale"}},
  "canary": {"weight": 2.5, "promote_after": "90s"},
  "signature": {"key_id": "ab", "ed25519": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}
}`

func schema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	text, err := os.ReadFile("manifest.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("manifest", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("manifest")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func schemaTakes(t *testing.T, s *jsonschema.Schema, text string) bool {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	return err == nil && s.Validate(v) == nil
}

func TestManifest(t *testing.T) {
	m, err := ParseManifest(ManifestName, []byte(fullManifest))
	if err != nil {
		t.Fatal(err)
	}
	if *m.Canary != (Canary{2.5, 90 * time.Second, 100}) {
		t.Errorf("canary %+v: min_requests has a default", *m.Canary)
	}
	if m.Base.Version != 1 || m.Files[1].Path != "a/model.safetensors" || m.Eval.Input["pv"].Metric != "pv" || len(m.Signature.Ed25519) != 64 || m.RequiredEnv[1] != "_X" {
		t.Errorf("%+v", m)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseManifest(ManifestName, b)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Fatalf("after a round: %v\n%s", err, b)
	}
	if !schemaTakes(t, schema(t), fullManifest) || !schemaTakes(t, schema(t), string(b)) {
		t.Error("the schema refuses it")
	}
}

// Each change is refused with the field's path, and by the schema too unless it
// says that it cannot.
func TestManifestRefuses(t *testing.T) {
	s := schema(t)
	for _, c := range []struct {
		from, to, want string
		beyondSchema   bool
	}{
		{`"model": "score"`, `"model": 7`, "MANIFEST.json: model: got 7, want text", false},
		{`"model": "score", `, ``, "MANIFEST.json: model: is missing", false},
		{`"model": "score"`, `"model": "a/b"`, `model: "a/b": want letters`, false},
		{`"model": "score"`, `"model": "` + strings.Repeat("x", 65) + `"`, "at most 64", false},
		{`"model": "score"`, `"model": "score", "model": "x"`, `line 2: is no JSON: "model" is there twice`, true},
		{`"model": "score"`, `"Model": "score"`, "Model: unknown field; known here: model, version", false},
		{`"version": 2, "schema`, `"version": 2.5, "schema`, "version: got 2.5, want a whole number", false},
		{`"version": 2, "schema`, `"version": 2.0, "schema`, "version: got 2.0, want a whole number", true},
		{`"version": 2, "schema`, `"version": -2, "schema`, "version: got -2", false},
		{`"version": 2, "schema`, `"version": 9007199254740992, "schema`, "version: got 9007199254740992", false},
		{`"version": 2, "schema`, `"version": "2", "schema`, `version: got text "2"`, false},
		{`"version": 2, "schema`, `"version": 0, "schema`, "version: is 0: want 1 to", false},
		{`"version": 2, "schema`, `"version": 1, "schema`, "base.version: is 1, version is 1: a delta leads", true},
		{`"schema_version": 1`, `"schema_version": 0`, "schema_version: is 0: want 1 to 2147483647", false},
		{`"schema_version": 1`, `"schema_version": 4294967297`, "schema_version: is 2147483648", false},
		{`["REGION", "_X"]`, `"REGION"`, `required_env: got text "REGION", want a list`, false},
		{`"_X"`, `"A-B"`, `required_env[1]: "A-B" is no name`, false},
		{`"_X"`, `null`, `required_env[1]: got null, want text`, false},
		{`"_X"`, `"REGION"`, `required_env[1]: "REGION" is there twice`, false},
		{`"base": {"version": 1,`, `"base": {"version": 0,`, "base.version: is 0", false},
		{`"root": "b3:1`, `"root": "b3:g`, "base.root: ", false},
		{`"target_root": "b3:`, `"target_root": "sha256:`, "target_root: ", false},
		{`"target_root": "` + rootText, `"target_root": "b3:` + strings.Repeat("0", 64), "target_root: is all zeros", false},
		{`"target_root": "` + rootText, `"target_root": "b3:` + strings.Repeat("1", 64), "files[1].blake3: is b3:", true},
		{`"path": "v2.qd"`, `"path": "../v2.qd"`, `files[0].path: "../v2.qd": want a plain relative path that stays in the drop`, false},
		{`"path": "v2.qd"`, `"path": "/v2.qd"`, `files[0].path: "/v2.qd"`, false},
		{`"path": "v2.qd"`, `"path": "a/../../v2.qd"`, `files[0].path`, false},
		{`"path": "v2.qd"`, `"path": "a//v2.qd"`, `files[0].path`, false},
		{`"path": "v2.qd"`, `"path": ".v2.qd"`, `begin with a dot`, false},
		{`"path": "v2.qd"`, `"path": "a\\v2.qd"`, `files[0].path`, false},
		{`"path": "v2.qd"`, `"path": "a\u0000v2.qd"`, `files[0].path`, false},
		{`"path": "v2.qd"`, `"path": ""`, `files[0].path`, false},
		{`"path": "v2.qd"`, `"path": "MANIFEST.json"`, `is the manifest itself`, false},
		{`"path": "v2.qd"`, `"path": "a/model.safetensors"`, `files[1].path: "a/model.safetensors" is there twice`, true},
		{`"role": "delta"`, `"role": "diff"`, `files[0].role: "diff": want "delta", "full", "bsdiff4" or "zstd-patch"`, false},
		{`"role": "full"`, `"role": "delta"`, `files[1].role: "delta" is there twice`, true},
		{`"size": 12, `, ``, "files[0].size: is missing", false},
		{`"size": 12`, `"size": 12, "mode": 1`, "files[0].mode: unknown field; known here: path, role, size, blake3, sha256", false},
		{`"sha256": "e`, `"sha256": "E`, "files[1].sha256", false},
		{`"kind": "ratio"`, `"kind": "cubic"`, `eval.kind: "cubic": want one of ratio, weighted_difference, linear, trees, wasm`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "rows": "r w"`, `eval.rows: "r w": want 1 to 256 visible ASCII characters`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "rows": ["rows"]`, `eval.rows: got a list, want text`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "limits": {}`, `eval.limits: is for kind "wasm" only`, false},
		{`"kind": "ratio"`, `"kind": "wasm", "limits": {"memory_pages": 0}`, `eval.limits.memory_pages: is 0: want 1 to 1024`, false},
		{`"kind": "ratio"`, `"kind": "wasm", "limits": {"timeout_ms": 1001}`, `eval.limits.timeout_ms: is 1001: want 1 to 1000`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "order": "uv"`, `eval.order: got text "uv", want a list`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"x": {"type": "number"}}`, `eval.schema.x: there is no such input`, true},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"uv": {"type": "text"}}`, `eval.schema.uv.type: "text": want one of`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"uv": {}}`, `eval.schema.uv.type: is missing`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"uv": {"type": "number", "required": 1}}`, `eval.schema.uv.required: got 1, want true or false`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"uv": {"type": "number", "max": "1"}}`, `eval.schema.uv.max: got text "1", want a number`, false},
		{`"kind": "ratio"`, `"kind": "ratio", "schema": {"uv": {"type": "category", "categories": ["a", "a"]}}`, `eval.schema.uv.categories: "a": want texts of at most 256 bytes, each once`, false},
		{`"pv": {"metric": "pv"}`, `"pv": {"metric": "pv", "field": "a b"}`, `eval.input.pv.field: "a b"`, false},
		{`"pv": {"metric": "pv"}`, `"p v": {"metric": ""}`, `eval.input["p v"].metric: ""`, false},
		{`"pv": {"metric": "pv"}`, `"pv": "pv"`, `eval.input.pv: got text "pv", want an object`, false},
		{`{"uv": {"metric": "uv"}, "pv": {"metric": "pv"}}`, `{}`, "eval.input: has 0 members", false},
		{`{"scale": "scale"}`, `{"scale": 1}`, "eval.weights.scale: got 1, want text", false},
		{`{"scale": "scale"}`, `["scale"]`, "eval.weights: got a list, want an object", false},
		{`"weight": 2.5`, `"weight": 101`, "canary.weight: is 101", false},
		{`"weight": 2.5`, `"weight": 1e999`, "canary.weight: got 1e999, want a number", false},
		{`"promote_after": "90s"`, `"promote_after": 90`, "canary.promote_after: got 90, want text", false},
		{`"promote_after": "90s"`, `"promote_after": "90"`, `canary.promote_after: "90" is no duration`, false},
		{`"promote_after": "90s"`, `"promote_after": "-1s"`, `canary.promote_after: is -1s`, false},
		{`"promote_after": "90s"`, `"promote_after": "721h"`, `canary.promote_after: is 721h0m0s`, true},
		{`"key_id": "ab"`, `"key_id": ""`, "signature.key_id", false},
		{`AAA==`, `AA==`, "signature.ed25519", false},
		{`AAA==`, `AAAA=`, "signature.ed25519: holds 65 bytes, want 64", false},
		{`AAA==`, `AA\nA==`, "signature.ed25519: is no base64", false},
		{`AAA==`, `A A==`, "signature.ed25519: is no base64", false},
		{"\n}", "\n} x", "more text after the end", true},
		{"\n}", "\n", "line 11: is no JSON: unexpected EOF", true},
		{`"canary": {`, `"canary": {"weight": {"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}, `, "nested deeper than 8", true},
	} {
		text := strings.Replace(fullManifest, c.from, c.to, 1)
		if text == fullManifest {
			t.Errorf("%s: not in the manifest", c.from)
			continue
		}
		_, err := ParseManifest(ManifestName, []byte(text))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "MANIFEST.json: ") {
			t.Errorf("%s: %v, want %q", c.to, err, c.want)
		}
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("%s: %T is no FormatError", c.to, err)
		}
		if schemaTakes(t, s, text) && !c.beyondSchema {
			t.Errorf("%s: the schema takes what the parser refuses", c.to)
		}
	}
}

func TestManifestTellsAllProblems(t *testing.T) {
	_, err := ParseManifest("m", []byte(`{"model": 1, "version": "x", "files": 3}`))
	for _, want := range []string{"m: model:", "m: version:", "m: schema_version: is missing", "m: target_root: is missing", "m: files: got 3, want a list"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
	for _, other := range []string{"", "[]", "null", `"x"`, "\xff", "{", strings.Repeat("[", 1<<19), strings.Repeat(" ", maxManifest+1)} {
		if _, err := ParseManifest("m", []byte(other)); err == nil {
			t.Errorf("%.20q was taken", other)
		}
	}
}

// Without optional fields.
func TestSmallestManifest(t *testing.T) {
	text := `{"model":"m","version":1,"schema_version":1,"target_root":"` + rootText + `","files":[{"path":"m","role":"full","size":0,"blake3":"` + rootText + `"}]}`
	m, err := ParseManifest("m", []byte(text))
	if err != nil || m.Base != nil || m.Eval != nil || m.Canary != nil || m.Signature != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	if !schemaTakes(t, schema(t), text) {
		t.Error("the schema refuses it")
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil || len(keys) != 5 {
		t.Errorf("%v: %s", err, b)
	}
}

// What a manifest leaves out of its eval is filled in, and the same is signed the
// same.
func TestEvalDefaults(t *testing.T) {
	const head = `{"metric": "score", "input": {"uv": {"metric": "uv", "field": "value"}}, "weights": {"module": "m"}, `
	e, err := ParseEval("eval.json", []byte(head+`"kind": "wasm", "order": ["uv"], "schema": {"uv": {"type": "number", "min": -0.0}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Eval{
		Kind: EvalWasm, Metric: "score", Input: map[string]Input{"uv": {Metric: "uv"}}, Order: []string{"uv"}, Weights: map[string]string{"module": "m"},
		Schema: map[string]Rule{"uv": {Type: RuleNumber, Required: true, Min: new(0.0)}}, Limits: new(DefaultLimits),
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
	if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), "-0") {
		t.Errorf("%s, %v: a zero has no sign", text, err)
	}
	if _, err := ParseEval("eval.json", []byte(head+`"kind": "ratio", "limits": {}}`)); err == nil {
		t.Error("limits for a ratio were taken")
	}
}

func TestWriteSafetensors(t *testing.T) {
	tensors := []TensorBytes{{"b", "U8", []int64{PageSize}, make([]byte, PageSize)}, {"a", "F64", nil, make([]byte, 8)}, {"c", "U32", []int64{0}, nil}}
	var b bytes.Buffer
	if err := WriteSafetensors(&b, tensors); err != nil {
		t.Fatal(err)
	}
	s, err := ParseSafetensors(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := s.Tensor("a"); !ok || a.Off != s.DataOff+PageSize || s.DataOff%PageSize != 0 || len(s.Tensors) != 3 {
		t.Errorf("%+v", s)
	}
	for _, bad := range [][]TensorBytes{{tensors[0], tensors[0]}, {{"a", "F64", nil, make([]byte, 7)}}, {{"a", "F63", nil, nil}}, {{"", "U8", []int64{1}, []byte{1}}}} {
		if err := WriteSafetensors(&b, bad); err == nil {
			t.Errorf("%s %s was written", bad[0].Name, bad[0].DType)
		}
	}
}
