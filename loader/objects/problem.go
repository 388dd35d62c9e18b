package objects

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Problem is what keeps a version in the bucket from being used, or one here from
// being tiered. It goes when the next try succeeds.
type Problem struct {
	About   string // a drop's address, or the bucket's
	Model   string // empty: the bucket as a whole
	Version uint64
	Reason  string
	Since   time.Time
	tier    bool
	logged  time.Time
}

// Problems lists what is wrong now, by what it is about.
func (s *Source) Problems() []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Problem, 0, len(s.problems))
	for _, p := range s.problems {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Compare(a.About, b.About) })
	return out
}

// logAgain is how often a problem is logged whose reason changes: of a server that
// is away, every attempt ends in another way.
const logAgain = 10 * time.Minute

// note takes note of how something went; what is new is logged.
func (s *Source) note(about, model string, version uint64, err error) {
	s.noteProblem(about, Problem{About: about, Model: model, Version: version}, err)
}

func (s *Source) noteProblem(key string, p Problem, err error) {
	s.mu.Lock()
	was, tell := s.problems[key], false
	if err == nil {
		delete(s.problems, key)
	} else {
		p.Reason, p.Since, p.logged = err.Error(), now(), now()
		tell = was == nil || was.Reason != p.Reason && p.Since.Sub(was.logged) >= logAgain
		if was != nil {
			p.Since = was.Since
			if !tell {
				p.logged = was.logged
			}
		}
		s.problems[key] = &p
	}
	s.mu.Unlock()
	switch {
	case tell:
		s.opts.Log.Warn("model bucket", "about", p.About, "model", p.Model, "version", p.Version, "reason", p.Reason)
	case err == nil && was != nil:
		s.opts.Log.Info("model bucket works again", "about", p.About, "model", p.Model, "version", p.Version)
	}
}

// Held is a version that the bucket holds.
type Held struct {
	Model    string
	Version  uint64
	Drop     string    // its address
	Root     string    // hex; empty when the manifest is no good
	Since    time.Time // when it was committed there
	Bytes    int64     // of the files that its manifest names and are there in their full size
	Fetching bool
}

// Held lists the versions that the bucket held at the last look, by model and
// number. at is when that was; zero when there was none yet.
func (s *Source) Held() (out []Held, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, model := range slices.Sorted(maps.Keys(s.catalog)) {
		versions := s.catalog[model]
		for _, n := range slices.Sorted(maps.Keys(versions)) {
			e := versions[n]
			h := Held{Model: model, Version: n, Drop: e.name(s.bucket), Since: e.manifest.modified}
			if e.mf != nil {
				h.Root = e.mf.TargetRoot.String()
				for _, f := range e.offer().usable {
					h.Bytes += f.Size
				}
			}
			h.Fetching = s.fetching[h.Drop]
			out = append(out, h)
		}
	}
	return out, s.looked
}
