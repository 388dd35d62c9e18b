package main

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

// budget profiles quadnine under the table's load and returns where its CPU
// goes. Nanoseconds are the stage's share of the table's median, so the budget
// adds up to the number above it.
func (f *field) budget(ctx context.Context, rows []row) ([]share, error) {
	var run *rivals.Running
	var perRequest, rate float64
	for _, e := range f.entrants {
		if e.Name == "quadnine" {
			run = e.run
		}
	}
	for _, l := range rows {
		if l.Name == "quadnine" {
			perRequest, rate = l.Median*1e3, l.PerSecond
		}
	}
	if run == nil {
		return nil, nil // left out with -only
	}
	// One and a half times the requests the profile needs: the load must
	// outlast it; what is left over is stopped. Only the entry with everything on
	// has a budget.
	n := int(1.5 * rate * f.profile.Seconds())
	client, err := f.h2load(run.Addr, max(n, f.requests)).Start()
	if err != nil {
		return nil, err
	}
	defer client.Stop()
	raw, err := fetchProfile(ctx, run.Admin, f.profile)
	if err != nil {
		return nil, err
	}
	if err := f.keep("quadnine.pprof", raw); err != nil {
		return nil, err
	}
	p, err := profile.ParseData(raw)
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	var out []share
	for _, s := range stage.Of(p) {
		out = append(out, share{Stage: s.Stage, Percent: s.Percent, Nanos: s.Percent / 100 * perRequest, Top: s.Top})
	}
	return out, nil
}

// keep writes a profile into the folder for results.
func (o options) keep(name string, raw []byte) error {
	if err := os.MkdirAll(o.results, 0o755); err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.results, name), raw, 0o644); err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	return nil
}

// fetchProfile takes a CPU profile of length d from the admin address.
func fetchProfile(ctx context.Context, admin string, d time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d+10*time.Second, errors.New("the profile did not arrive in time"))
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, int(d.Seconds()))
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
	return raw, nil
}
