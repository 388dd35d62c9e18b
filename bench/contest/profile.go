package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/pprof/profile"

	"github.com/quadnine/quadnine/bench/rivals"
	"github.com/quadnine/quadnine/bench/stage"
)

// Share is one line of quadnine's budget.
type Share struct {
	Stage   string  `json:"stage"`
	Nanos   float64 `json:"ns"` // of CPU a request
	Percent float64 `json:"percent"`
	Top     string  `json:"top,omitempty"` // its dearest function
}

// profile takes a CPU profile of quadnine under a case's load, keeps it, and
// returns where the CPU goes. Nanoseconds are the stage's share of the case's
// median, so they add up to the number in the table.
func (s *stand) profile(ctx context.Context, c *testCase, res *Result) ([]Share, error) {
	e := s.find(rivals.NameQuadnine)
	if c.kind == Curves && len(s.entrants) > 0 {
		e = s.entrants[len(s.entrants)-1] // the one with most
	}
	if e == nil || e.run == nil || e.run.Admin == "" || res == nil {
		return nil, nil
	}
	client, err := c.load.start(ctx, s, e, 2*s.Profile+time.Second) // it must outlast the profile, and is stopped then
	if err != nil || client == nil {
		return nil, err
	}
	defer client.Stop()
	p, err := Fetch(ctx, e.run.Admin, s.Profile)
	if err != nil {
		return nil, err
	}
	if err := Keep(s.Results, "quadnine-"+c.name+".pprof", p); err != nil {
		return nil, err
	}
	perRequest := res.cell(e.Name).median(cpu) * 1e3
	var out []Share
	for _, s := range stage.Of(p) {
		out = append(out, Share{Stage: s.Stage, Percent: s.Percent, Nanos: s.Percent / 100 * perRequest, Top: s.Top})
	}
	return out, nil
}

// Keep writes a profile into the folder for results, without the place where the
// binary was: profiles are published.
func Keep(folder, name string, p *profile.Profile) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the profile: %w", err)
		}
	}()
	for _, m := range p.Mapping {
		m.File = filepath.Base(m.File)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	return errors.Join(p.Write(f), f.Close())
}

// Fetch takes a CPU profile of length d, a second at least, from quadnine's admin
// address.
func Fetch(ctx context.Context, admin string, d time.Duration) (*profile.Profile, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d+10*time.Second, errors.New("the profile did not arrive in time"))
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, max(1, int(d.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile: %s answers %d: %.200s", url, res.StatusCode, raw)
	}
	p, err := profile.ParseData(raw)
	if err != nil {
		return nil, fmt.Errorf("profile: read it: %w", err)
	}
	return p, nil
}
