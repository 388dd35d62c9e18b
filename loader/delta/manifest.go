package delta

import (
	"encoding/json"
	"fmt"
	"time"

	"lukechampine.com/blake3"
)

// ManifestName is the file whose renaming into a drop commits it.
const ManifestName = "MANIFEST.json"

// Manifest says what a drop holds and how it is to be brought in. ParseManifest
// and Validate say what each field may be; manifest.schema.json says it to other
// programs.
type Manifest struct {
	Model         string     `json:"model"`
	Version       uint64     `json:"version"`
	SchemaVersion int        `json:"schema_version"`
	RequiredEnv   []string   `json:"required_env,omitempty"` // variables that must be set where it runs
	Base          *Base      `json:"base,omitempty"`         // nil: there is neither delta nor patch
	TargetRoot    Root       `json:"target_root"`            // of the version's whole bytes
	Files         []File     `json:"files"`
	Eval          *Eval      `json:"eval,omitempty"`
	Canary        *Canary    `json:"canary,omitempty"` // ParseManifest fills in defaults; nil: the loader's
	Shadow        *Shadow    `json:"shadow,omitempty"` // ParseManifest fills in defaults; nil: none
	Warmup        []Warmup   `json:"warmup,omitempty"`
	Signature     *Signature `json:"signature,omitempty"`
}

// Base is the version that a delta or a patch was made from.
type Base struct {
	Version uint64 `json:"version"`
	Root    Root   `json:"root"`
}

// Role is what a file of a drop is for.
type Role string

// The roles. A drop has at most one file of each.
const (
	RoleDelta     Role = "delta"      // a .qd file, for who has the base
	RoleFull      Role = "full"       // the version itself
	RoleBSDiff4   Role = "bsdiff4"    // a BSDIFF40 patch against the base's file, as bsdiff 4 and Python's bsdiff4 write it
	RoleZstdPatch Role = "zstd-patch" // a patch against the base's file by zstd --patch-from
)

// IsPatch reports whether the role is a patch: a form for transport, that a
// version has to be made from before any of it can be mapped.
func (r Role) IsPatch() bool { return r == RoleBSDiff4 || r == RoleZstdPatch }

// File is one file of a drop.
type File struct {
	Path   string `json:"path"` // in the drop; no way out of it
	Role   Role   `json:"role"`
	Size   int64  `json:"size"`
	BLAKE3 Root   `json:"blake3"`           // the root of its bytes, see the package comment
	SHA256 string `json:"sha256,omitempty"` // of its bytes, in hex
}

// Eval says how the version answers within the process: package model knows the
// kinds.
type Eval struct {
	Kind    string            `json:"kind"`
	Metric  string            `json:"metric"`
	Input   map[string]Input  `json:"input"`
	Order   []string          `json:"order,omitempty"` // of the inputs, for kinds that leave it open
	Rows    string            `json:"rows,omitempty"`  // member of a reply that holds its rows; empty: replies are one row
	Weights map[string]string `json:"weights"`         // weight → tensor
	Schema  map[string]Rule   `json:"schema,omitempty"`
	Limits  *Limits           `json:"limits,omitempty"` // of EvalWasm; ParseManifest fills in defaults
}

// The kinds of Eval.
const (
	EvalRatio              = "ratio"
	EvalWeightedDifference = "weighted_difference"
	EvalLinear             = "linear"
	EvalTrees              = "trees"
	EvalWasm               = "wasm"
)

// Input is where a value of an evaluation comes from: a field of the upstream's
// reply.
type Input struct {
	Metric string `json:"metric"`
	Field  string `json:"field,omitempty"` // "value" when empty
}

// Canary says how much traffic tries the version, and when it is promoted.
type Canary struct {
	Weight       float64       // percent of the callers, 0 to 100; 0: active at once
	PromoteAfter time.Duration // from becoming a canary
	MinRequests  int64         // that it must have answered
}

// DefaultCanary is what a manifest's canary leaves out.
var DefaultCanary = Canary{Weight: 5, PromoteAfter: time.Minute, MinRequests: 100}

// MarshalJSON writes the canary as a manifest has it.
func (c Canary) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Weight       float64 `json:"weight"`
		PromoteAfter string  `json:"promote_after"`
		MinRequests  int64   `json:"min_requests"`
	}{c.Weight, c.PromoteAfter.String(), c.MinRequests})
}

// File returns the file of a role.
func (m *Manifest) File(r Role) (File, bool) {
	for _, f := range m.Files {
		if f.Role == r {
			return f, true
		}
	}
	return File{}, false
}

// Marshal returns the manifest's JSON, after Validate.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

const signedDomain = "quadnine.signed.v2\x00"

// SignedRoot is what the signature is over: BLAKE3-256 of
//
//	"quadnine.signed.v2\0" ‖ base root ‖ payload root ‖ table root ‖ target root ‖ canonical manifest
//
// The package comment says what the canonical manifest is. h is the header of
// the drop's delta, whose base and target must be the manifest's; nil when there
// is none: the first three roots are then zero. A patch needs no header: its
// digest, the base's root and the target's stand in the manifest.
func (m *Manifest) SignedRoot(h *Header) (Root, error) {
	if _, ok := m.File(RoleDelta); ok != (h != nil) {
		return Root{}, fmt.Errorf("a manifest with a delta is signed with the delta's header, one without is not: has delta %t, header %t", ok, h != nil)
	}
	var base, payload, table Root
	if h != nil {
		if err := m.CheckHeader(h); err != nil {
			return Root{}, err
		}
		base, payload, table = h.BaseRoot, h.PayloadRoot, h.TableRoot
	}
	text, err := m.canonical()
	if err != nil {
		return Root{}, err
	}
	b := []byte(signedDomain)
	for _, r := range []Root{base, payload, table, m.TargetRoot} {
		b = append(b, r[:]...)
	}
	return blake3.Sum256(append(b, text...)), nil
}

// CheckHeader reports whether a delta belongs to the manifest: same base, same
// target.
func (m *Manifest) CheckHeader(h *Header) error {
	if m.Base == nil {
		return malformed("the manifest names no base, the drop has a delta")
	}
	if err := match("the delta's base", "the manifest", h.BaseRoot, m.Base.Root); err != nil {
		return err
	}
	return match("the delta's target", "the manifest", h.TargetRoot, m.TargetRoot)
}
