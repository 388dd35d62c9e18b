package delta

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a manifest. The schema has them too.
const (
	maxFiles    = 4 // one of each role
	maxEnv      = 256
	maxInputs   = 64
	maxPath     = 255
	maxDuration = 30 * 24 * time.Hour
)

var (
	modelName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) // goes into a header and into file names
	envName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	metricName = regexp.MustCompile(`^[\x21-\x7e]{1,256}$`) // visible ASCII, as keys allow
	keyName    = regexp.MustCompile(`^[\x21-\x7e]{1,64}$`)
	sha256Hex  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate checks everything that the types leave open. All problems are told,
// each with its field's path.
func (m *Manifest) Validate() error {
	if errs := m.problems(); len(errs) > 0 {
		return &FormatError{errors.Join(errs...)}
	}
	return nil
}

func (m *Manifest) problems() []error {
	w := walk{}
	if !modelName.MatchString(m.Model) {
		w.errf("model", "%q: want letters, digits, dots, dashes and underscores, at most 64, a letter or digit first", m.Model)
	}
	w.within("version", m.Version, 1, maxNumber)
	w.within("schema_version", uint64(max(m.SchemaVersion, 0)), 1, math.MaxInt32)
	w.env(m.RequiredEnv)
	if m.TargetRoot.IsZero() {
		w.errf("target_root", "is all zeros")
	}
	if b := m.Base; b != nil {
		w.within("base.version", b.Version, 1, maxNumber)
		if b.Version >= m.Version {
			w.errf("base.version", "is %d, version is %d: a delta leads from a lower version to a higher one", b.Version, m.Version)
		}
		if b.Root.IsZero() {
			w.errf("base.root", "is all zeros")
		}
	}
	w.files(m)
	if m.Eval != nil {
		w.evaluation(m.Eval)
	}
	if c := m.Canary; c != nil {
		if !(c.Weight >= 0 && c.Weight <= 100) { // NaN is not
			w.errf("canary.weight", "is %v: want a percentage from 0 to 100", c.Weight)
		}
		if c.PromoteAfter < 0 || c.PromoteAfter > maxDuration {
			w.errf("canary.promote_after", "is %v: want 0s to %v", c.PromoteAfter, maxDuration)
		}
		w.within("canary.min_requests", uint64(c.MinRequests), 0, maxNumber)
	}
	w.studies(m)
	if s := m.Signature; s != nil {
		if !keyName.MatchString(s.KeyID) {
			w.errf("signature.key_id", "%q: want 1 to 64 visible ASCII characters", s.KeyID)
		}
		if len(s.Ed25519) != ed25519.SignatureSize {
			w.errf("signature.ed25519", "holds %d bytes, want %d", len(s.Ed25519), ed25519.SignatureSize)
		}
	}
	return w.errs
}

func (w *walk) within(path string, v, low, high uint64) {
	if v < low || v > high {
		w.errf(path, "is %d: want %d to %d", v, low, high)
	}
}

func (w *walk) env(names []string) {
	if len(names) > maxEnv {
		w.errf("required_env", "has %d names, at most %d are allowed", len(names), maxEnv)
	}
	for i, n := range names {
		path := "required_env[" + strconv.Itoa(i) + "]"
		if !envName.MatchString(n) {
			w.errf(path, "%q is no name of an environment variable", n)
		}
		if slices.Contains(names[:i], n) {
			w.errf(path, "%q is there twice", n)
		}
	}
}

func (w *walk) files(m *Manifest) {
	if n := len(m.Files); n < 1 || n > maxFiles {
		w.errf("files", "has %d, want a delta, a patch, a full file, or one of each", n)
		return
	}
	for i, f := range m.Files {
		at := "files[" + strconv.Itoa(i) + "]"
		if err := CheckPath(f.Path); err != nil {
			w.errf(at+".path", "%w", err)
		}
		w.within(at+".size", uint64(f.Size), 0, maxNumber)
		if f.BLAKE3.IsZero() {
			w.errf(at+".blake3", "is all zeros")
		}
		if f.SHA256 != "" && !sha256Hex.MatchString(f.SHA256) {
			w.errf(at+".sha256", "%q: want 64 lower-case hex digits", f.SHA256)
		}
		switch f.Role {
		case RoleDelta, RoleBSDiff4, RoleZstdPatch:
			if m.Base == nil {
				w.errf("base", "is missing, but %s is a %s", at, f.Role)
			}
		case RoleFull:
			if f.BLAKE3 != m.TargetRoot {
				w.errf(at+".blake3", "is %s, target_root %s: the full file is the target", f.BLAKE3.Short(), m.TargetRoot.Short())
			}
		default:
			w.errf(at+".role", "%q: want %q, %q, %q or %q", f.Role, RoleDelta, RoleFull, RoleBSDiff4, RoleZstdPatch)
		}
		for _, g := range m.Files[:i] {
			if g.Path == f.Path {
				w.errf(at+".path", "%q is there twice", f.Path)
			}
			if g.Role == f.Role {
				w.errf(at+".role", "%q is there twice", f.Role)
			}
		}
	}
	if m.Base != nil && !slices.ContainsFunc(m.Files, func(f File) bool { return f.Role != RoleFull }) {
		w.errf("base", "is given, but no file is a delta or a patch")
	}
}

// CheckPath refuses paths that lead out of a drop, and names that a drop keeps
// for itself.
func CheckPath(p string) error {
	switch {
	case len(p) > maxPath:
		return malformed("has %d bytes, at most %d are allowed", len(p), maxPath)
	case p == "" || !filepath.IsLocal(p) || strings.ContainsAny(p, "\\\x00") || p != filepath.ToSlash(filepath.Clean(p)):
		return malformed("%q: want a plain relative path that stays in the drop", p)
	case strings.HasPrefix(p, ".") || strings.Contains(p, "/."):
		return malformed("%q: names that begin with a dot are not for files of a drop", p)
	case p == ManifestName:
		return malformed("%q is the manifest itself", p)
	}
	return nil
}

func (w *walk) evaluation(e *Eval) {
	if !slices.Contains(evalKinds, e.Kind) {
		w.errf("eval.kind", "%q: want one of %s", e.Kind, strings.Join(evalKinds, ", "))
	}
	if !metricName.MatchString(e.Metric) {
		w.errf("eval.metric", "%q: want 1 to 256 visible ASCII characters", e.Metric)
	}
	if n := len(e.Input); n < 1 || n > maxInputs {
		w.errf("eval.input", "has %d members, want 1 to %d", n, maxInputs)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Input)) {
		in := e.Input[name]
		if !metricName.MatchString(in.Metric) {
			w.errf(join("eval.input", name)+".metric", "%q: want 1 to 256 visible ASCII characters", in.Metric)
		}
		if in.Field != "" && !metricName.MatchString(in.Field) {
			w.errf(join("eval.input", name)+".field", "%q: want 1 to 256 visible ASCII characters", in.Field)
		}
	}
	if e.Rows != "" && !metricName.MatchString(e.Rows) {
		w.errf("eval.rows", "%q: want 1 to 256 visible ASCII characters", e.Rows)
	}
	if n := len(e.Weights); n > maxInputs {
		w.errf("eval.weights", "has %d members, at most %d are allowed", n, maxInputs)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Weights)) {
		if t := e.Weights[name]; t == "" || len(t) > maxName {
			w.errf(join("eval.weights", name), "names a tensor of %d bytes, want 1 to %d", len(t), maxName)
		}
	}
	w.rules(e)
}
