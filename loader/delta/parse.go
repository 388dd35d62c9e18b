package delta

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// ParseManifest reads a manifest. Every error says name and the field's path, and
// all of them are told. What Validate refuses is refused.
func ParseManifest(name string, data []byte) (*Manifest, error) {
	tree, err := parseJSON(data)
	if err != nil {
		return nil, malformed("%s: %w", name, err)
	}
	var m Manifest
	w := walk{}
	w.manifest(&m, tree)
	if len(w.errs) == 0 {
		w.errs = m.problems()
	}
	for i, err := range w.errs {
		w.errs[i] = fmt.Errorf("%s: %w", name, err)
	}
	if len(w.errs) > 0 {
		return nil, &FormatError{errors.Join(w.errs...)}
	}
	return &m, nil
}

func (w *walk) manifest(m *Manifest, v any) {
	w.object("", v, []field{
		{"model", true, func(p string, v any) { m.Model = w.text(p, v) }},
		{"version", true, func(p string, v any) { m.Version = uint64(w.integer(p, v)) }},
		{"schema_version", true, func(p string, v any) { m.SchemaVersion = int(min(w.integer(p, v), math.MaxInt32+1)) }},
		{"required_env", false, func(p string, v any) {
			w.list(p, v, func(p string, v any) { m.RequiredEnv = append(m.RequiredEnv, w.text(p, v)) })
		}},
		{"base", false, func(p string, v any) {
			m.Base = new(Base)
			w.object(p, v, []field{
				{"version", true, func(p string, v any) { m.Base.Version = uint64(w.integer(p, v)) }},
				{"root", true, func(p string, v any) { m.Base.Root = w.root(p, v) }},
			})
		}},
		{"target_root", true, func(p string, v any) { m.TargetRoot = w.root(p, v) }},
		{"files", true, func(p string, v any) {
			w.list(p, v, func(p string, v any) { m.Files = append(m.Files, w.file(p, v)) })
		}},
		{"eval", false, func(p string, v any) { m.Eval = w.eval(p, v) }},
		{"canary", false, func(p string, v any) { m.Canary = w.canary(p, v) }},
		{"shadow", false, func(p string, v any) { m.Shadow = w.shadow(p, v) }},
		{"warmup", false, func(p string, v any) {
			w.list(p, v, func(p string, v any) { m.Warmup = append(m.Warmup, w.warmup(p, v)) })
		}},
		{"signature", false, func(p string, v any) { m.Signature = w.signature(p, v) }},
	})
}

func (w *walk) file(path string, v any) (f File) {
	w.object(path, v, []field{
		{"path", true, func(p string, v any) { f.Path = w.text(p, v) }},
		{"role", true, func(p string, v any) { f.Role = Role(w.text(p, v)) }},
		{"size", true, func(p string, v any) { f.Size = w.integer(p, v) }},
		{"blake3", true, func(p string, v any) { f.BLAKE3 = w.root(p, v) }},
		{"sha256", false, func(p string, v any) { f.SHA256 = w.text(p, v) }},
	})
	return f
}

func (w *walk) eval(path string, v any) *Eval {
	e := &Eval{Input: map[string]Input{}, Weights: map[string]string{}}
	w.object(path, v, []field{
		{"kind", true, func(p string, v any) { e.Kind = w.text(p, v) }},
		{"metric", true, func(p string, v any) { e.Metric = w.text(p, v) }},
		{"input", true, func(p string, v any) {
			w.members(p, v, func(name, p string, v any) { e.Input[name] = w.input(p, v) })
		}},
		{"order", false, func(p string, v any) {
			w.list(p, v, func(p string, v any) { e.Order = append(e.Order, w.text(p, v)) })
		}},
		{"rows", false, func(p string, v any) { e.Rows = w.text(p, v) }},
		{"weights", true, func(p string, v any) {
			w.members(p, v, func(name, p string, v any) { e.Weights[name] = w.text(p, v) })
		}},
		{"schema", false, func(p string, v any) {
			e.Schema = map[string]Rule{}
			w.members(p, v, func(name, p string, v any) { e.Schema[name] = w.rule(p, v) })
		}},
		{"limits", false, func(p string, v any) { e.Limits = w.limits(p, v) }},
	})
	if e.Kind == EvalWasm && e.Limits == nil {
		e.Limits = new(DefaultLimits)
	}
	return e
}

func (w *walk) canary(path string, v any) *Canary {
	c := DefaultCanary
	w.object(path, v, []field{
		{"weight", false, func(p string, v any) { c.Weight = w.number(p, v) }},
		{"promote_after", false, func(p string, v any) { c.PromoteAfter = w.duration(p, v) }},
		{"min_requests", false, func(p string, v any) { c.MinRequests = w.integer(p, v) }},
	})
	return &c
}

func (w *walk) signature(path string, v any) *Signature {
	s := new(Signature)
	w.object(path, v, []field{
		{"key_id", true, func(p string, v any) { s.KeyID = w.text(p, v) }},
		{"ed25519", true, func(p string, v any) {
			text := w.text(p, v)
			b, err := base64.StdEncoding.Strict().DecodeString(text)
			if err != nil || base64.StdEncoding.EncodeToString(b) != text { // the decoder skips line breaks
				w.errf(p, "is no base64 on one line")
			}
			s.Ed25519 = b
		}},
	})
	return s
}

func (w *walk) root(path string, v any) Root {
	if s, ok := w.maybeText(path, v); ok {
		r, err := ParseRoot(s)
		if err != nil {
			w.errf(path, "%w", err)
		}
		return r
	}
	return Root{}
}

func (w *walk) duration(path string, v any) time.Duration {
	if s, ok := w.maybeText(path, v); ok {
		d, err := time.ParseDuration(s)
		if err != nil {
			w.errf(path, "%q is no duration: write it like 60s or 5m", s)
		}
		return d
	}
	return 0
}

func (w *walk) number(path string, v any) float64 {
	if n, ok := v.(json.Number); ok {
		if f, err := n.Float64(); err == nil {
			return f
		}
	}
	w.errf(path, "got %s, want a number", describe(v))
	return 0
}

// ParseEval reads an eval object that stands in a file of its own, before it
// goes into a manifest.
func ParseEval(name string, data []byte) (*Eval, error) {
	tree, err := parseJSON(data)
	if err != nil {
		return nil, malformed("%s: %w", name, err)
	}
	w := walk{}
	e := w.eval("eval", tree)
	if len(w.errs) == 0 {
		w.evaluation(e)
	}
	for i, err := range w.errs {
		w.errs[i] = fmt.Errorf("%s: %w", name, err)
	}
	if len(w.errs) > 0 {
		return nil, &FormatError{errors.Join(w.errs...)}
	}
	return e, nil
}
