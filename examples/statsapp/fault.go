package statsapp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is how a faulty request goes wrong.
type Kind string

// The kinds.
const (
	None    Kind = "none"    // answered, as if no fault were set
	Error   Kind = "error"   // Status, or the gRPC code that corresponds
	Delay   Kind = "delay"   // answered, late
	Hang    Kind = "hang"    // never answered; ends when the caller gives up
	Reset   Kind = "reset"   // HTTP/2: RST_STREAM; HTTP/1.1: connection closed; nothing is sent before
	Partial Kind = "partial" // the whole length announced, half of it sent, then as Reset
)

// Fault is what goes wrong for one tenant.
type Fault struct {
	Kind    Kind `json:"kind"`
	Status  int  `json:"status,omitempty"`   // of Error, 500 to 599; 0 is 503
	DelayMS int  `json:"delay_ms,omitempty"` // milliseconds before the fault, whatever its kind; at most 600,000
	Percent int  `json:"percent,omitempty"`  // of requests, evenly spread; 0 is 100
}

func (f *Fault) check() error {
	switch f.Kind {
	case None, Error, Delay, Hang, Reset, Partial:
	default:
		return &QueryError{Field: "kind", Reason: fmt.Sprintf("%q: want error, delay, hang, reset, partial or none", string(f.Kind))}
	}
	switch {
	case f.Status != 0 && (f.Status < 500 || f.Status > 599):
		return &QueryError{Field: "status", Reason: fmt.Sprintf("%d: want 500 to 599", f.Status)}
	case f.DelayMS < 0 || f.DelayMS > 600_000:
		return &QueryError{Field: "delay_ms", Reason: fmt.Sprintf("%d: want 0 to 600000", f.DelayMS)}
	case f.Kind == Delay && f.DelayMS == 0:
		return &QueryError{Field: "delay_ms", Reason: "a delay needs a length"}
	case f.Percent < 0 || f.Percent > 100:
		return &QueryError{Field: "percent", Reason: fmt.Sprintf("%d: want 0 to 100", f.Percent)}
	}
	return nil
}

// wait lasts DelayMS, or until ctx ends: then it returns false.
func (f *Fault) wait(ctx context.Context) bool {
	if f.DelayMS == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// status returns the HTTP status of an Error.
func (f *Fault) status() int {
	if f.Status == 0 {
		return http.StatusServiceUnavailable
	}
	return f.Status
}

// SetFault switches f on for tenant, in place of what was set before; kind None
// switches off. It fails when f or the tenant's name is invalid, or when
// Options.MaxTenants have faults already.
func (a *App) SetFault(tenant string, f Fault) error {
	if !validName(tenant) {
		return &QueryError{Field: "tenant", Reason: "want 1 to 64 of A-Z a-z 0-9 . _ -"}
	}
	if err := f.check(); err != nil {
		return err
	}
	return a.faults.set(tenant, f)
}

// faults are the faults switched on.
type faults struct {
	most int

	mu sync.RWMutex
	on map[string]*switched // guarded by mu
}

// switched is a fault and how many requests it has looked at.
type switched struct {
	Fault
	seen atomic.Int64
	hits atomic.Int64
}

func newFaults(most int) *faults { return &faults{most: most, on: map[string]*switched{}} }

func (fs *faults) set(tenant string, f Fault) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.Kind == None {
		delete(fs.on, tenant)
		return nil
	}
	if fs.on[tenant] == nil && len(fs.on) >= fs.most {
		return &QueryError{Field: "tenant", Reason: fmt.Sprintf("%d tenants have faults, the most allowed; switch one off with kind none", fs.most)}
	}
	fs.on[tenant] = &switched{Fault: f}
	return nil
}

// draw decides whether tenant's next request goes wrong. Hits are spread evenly
// rather than by chance: of any 100 requests in a row exactly Percent are hit.
func (fs *faults) draw(tenant string) (Fault, bool) {
	fs.mu.RLock()
	s := fs.on[tenant]
	fs.mu.RUnlock()
	if s == nil {
		return Fault{}, false
	}
	n, p := s.seen.Add(1), int64(s.Percent)
	if p == 0 {
		p = 100
	}
	if n*p/100 == (n-1)*p/100 {
		return Fault{}, false
	}
	s.hits.Add(1)
	return s.Fault, true
}

// faultView is a fault as the admin endpoint shows it.
type faultView struct {
	Fault
	Seen int64 `json:"seen"` // requests since it was set
	Hits int64 `json:"hits"` // requests that it spoiled
}

func (fs *faults) view() map[string]faultView {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	views := make(map[string]faultView, len(fs.on))
	for tenant, s := range fs.on {
		views[tenant] = faultView{Fault: s.Fault, Seen: s.seen.Load(), Hits: s.hits.Load()}
	}
	return views
}

// parseFault reads the admin endpoint's body. A name that is not a Fault's is an
// error: a mistyped percent would mean every request.
func parseFault(body []byte) (Fault, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var f Fault
	if err := d.Decode(&f); err != nil {
		return Fault{}, fmt.Errorf("want one JSON object with kind, status, delay_ms, percent: %w", err)
	}
	return f, nil
}
