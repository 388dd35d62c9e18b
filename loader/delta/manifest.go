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
	Base          *Base      `json:"base,omitempty"`         // nil: there is no delta
	TargetRoot    Root       `json:"target_root"`            // of the version's whole bytes
	Files         []File     `json:"files"`
	Eval          *Eval      `json:"eval,omitempty"`
	Canary        *Canary    `json:"canary,omitempty"` // ParseManifest fills in defaults; nil: the loader's
	Signature     *Signature `json:"signature,omitempty"`
}

// Base is the version that a delta was made from.
type Base struct {
	Version uint64 `json:"version"`
	Root    Root   `json:"root"`
}

// Role is what a file of a drop is for.
type Role string

// The roles. A drop has at most one file of each.
const (
	RoleDelta Role = "delta" // a .qd file, for who has the base
	RoleFull  Role = "full"  // the version itself
)

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
	Weights map[string]string `json:"weights"` // weight → tensor
}

// The kinds of Eval.
const (
	EvalRatio              = "ratio"
	EvalWeightedDifference = "weighted_difference"
)

// Input is where a value of an evaluation comes from: a field of the upstream's
// reply.
type Input struct {
	Metric string `json:"metric"`
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
// is none: the first three roots are then zero.
func (m *Manifest) SignedRoot(h *Header) (Root, error) {
	if (h == nil) != (m.Base == nil) {
		return Root{}, fmt.Errorf("a manifest with a base is signed with its delta's header, one without is not: has base %t, header %t", m.Base != nil, h != nil)
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
