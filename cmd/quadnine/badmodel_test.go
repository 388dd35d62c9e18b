package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/snapshot"
)

// auditLog is a sidecar's log that tests wait for lines of. It is shown when the
// test fails.
type auditLog struct {
	t *testing.T

	mu    sync.Mutex
	lines []string
	more  chan struct{} // guarded by mu; closed with the next line
}

func newAuditLog(t *testing.T) *auditLog {
	t.Helper()
	l := &auditLog{t: t, more: make(chan struct{})}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() {
			t.Logf("the sidecar's log:\n%s", strings.Join(l.lines, ""))
		}
	})
	return l
}

// Write takes one record.
func (l *auditLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	close(l.more)
	l.more = make(chan struct{})
	return len(p), nil
}

// await waits for a line with all of these parts, which may have been written
// before.
func (l *auditLog) await(parts ...string) string {
	l.t.Helper()
	late := time.After(30 * time.Second) // a bound for a broken test, not a pace
	for seen := 0; ; {
		l.mu.Lock()
		fresh, more := l.lines[seen:], l.more
		seen = len(l.lines)
		l.mu.Unlock()
		for _, line := range fresh {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return line
			}
		}
		select {
		case <-more:
		case <-late:
			l.t.Fatalf("no log line has all of %q", parts)
		}
	}
}

// startUpstream serves h on loopback, as HTTP/1.1 and as h2c.
func startUpstream(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// routedApp is an upstream that answers as the version that x-model-version
// names, and counts what each was asked.
type routedApp struct {
	mu    sync.Mutex
	calls map[string]int   // guarded by mu; by version
	bad   http.HandlerFunc // guarded by mu; answers as score@2 once it is set
}

func (a *routedApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version := r.Header.Get("X-Model-Version")
	a.mu.Lock()
	a.calls[version]++
	bad := a.bad
	a.mu.Unlock()
	w.Header().Set("X-Model-Version", version)
	if version == "score@2" {
		bad(w, r)
		return
	}
	_, _ = fmt.Fprint(w, "answer")
}

func (a *routedApp) asked(version string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[version]
}

// dropRouted writes a full drop of a version that the upstream answers as.
func dropRouted(t *testing.T, dir string, n uint64, c delta.Canary) {
	t.Helper()
	drop := filepath.Join(dir, "v"+strconv.FormatUint(n, 10))
	if err := os.Mkdir(drop, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	p := delta.Pack{Manifest: delta.Manifest{Model: "score", Version: n, SchemaVersion: 1, Canary: &c}}
	if _, err := p.Full(t.Context(), root, bytes.NewReader(weights{float64(n), 1}.file(t))); err != nil {
		t.Fatal(err)
	}
}

// routed asks as caller i: each has a tenant of its own, so that no breaker of a
// key hides the version.
func (s *stand) routed(c *http.Client, i int64) (version string, a answer) {
	s.t.Helper()
	a = s.do(c, http.MethodGet, s.url(fmt.Sprint("/any?tenant=t-", i)), nil)
	return a.header.Get("X-Quadnine-Model"), a
}

// onlyVersion1 checks that 300 callers are answered by score@1, and that the
// upstream is not asked for another.
func (s *stand) onlyVersion1(app *routedApp) {
	s.t.Helper()
	c, bad := s.client(true), app.asked("score@2")
	for i := range int64(300) {
		if version, a := s.routed(c, i); a.status != http.StatusOK || version != "score@1" {
			s.t.Fatalf("%d by %q: %s", a.status, version, a.body)
		}
	}
	if n := app.asked("score@2"); n != bad {
		s.t.Errorf("the upstream was asked for score@2 %d times more", n-bad)
	}
}

// saysWhy checks that the admin pages tell that score@2 was taken back, and why.
func (s *stand) saysWhy(why string) {
	s.t.Helper()
	if page := s.admin("/explain?tenant=t-1"); !strings.Contains(page, "score@2 was taken back: verdict=rollback why="+why) {
		s.t.Errorf("/explain does not say %q:\n%s", why, page)
	}
	for line := range strings.Lines(s.admin("/models")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "@2" && f[1] == "refused" && strings.Contains(line, "why="+why) {
			return
		}
	}
	s.t.Errorf("/models does not say %q:\n%s", why, s.admin("/models"))
}

// TestBadRoutedVersionGoesBackByItself ships versions that the upstream answers
// badly as: each is taken back without anybody's doing, is asked for no more, is
// explained, and does not return with the next start.
func TestBadRoutedVersionGoesBackByItself(t *testing.T) {
	for _, tc := range []struct {
		name, why string
		bad       func(s *stand) http.HandlerFunc
		answers   bool // the bad version's callers have a whole reply
	}{
		{"status 500", "error-rate", func(*stand) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
		}, false},
		{"reset", "error-rate", func(*stand) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}, false},
		{"slow", "latency", func(s *stand) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				// On a busy machine the active version is slow too: this one is
				// always slower than it may be, twice the active one's P95.
				took := 30 * time.Millisecond
				if e, ok := s.side.models.trial("score", 2); ok {
					took = max(took, 4*e.Active.P95)
				}
				select {
				case <-time.After(took):
					_, _ = fmt.Fprint(w, "answer")
				case <-r.Context().Done():
				}
			}
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := &routedApp{calls: make(map[string]int)}
			source := snapshot.Source{Upstreams: []string{startUpstream(t, app)}}
			models := modelsConfig{dir: t.TempDir(), store: t.TempDir()}
			trial := delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
			t.Run("taken back", func(t *testing.T) {
				log := newAuditLog(t)
				s := newStand(t, standConfig{source: source, models: models, logTo: log})
				app.mu.Lock()
				app.bad = tc.bad(s)
				app.mu.Unlock()
				c := s.client(true)
				dropRouted(t, models.dir, 1, trial)
				for version := ""; version != "score@1"; {
					version, _ = s.routed(c, 0)
				}
				dropRouted(t, models.dir, 2, trial)
				var wg sync.WaitGroup
				var stop atomic.Bool
				var next, failed atomic.Int64
				for w := range 16 {
					c := s.client(w%2 == 0)
					wg.Go(func() {
						for !stop.Load() {
							version, a := s.routed(c, next.Add(1))
							switch {
							case a.status != http.StatusOK && !tc.answers:
								failed.Add(1) // compared below with what the upstream failed
							case a.status != http.StatusOK, version != "score@1" && version != "score@2", version == "score@2" && !tc.answers:
								t.Errorf("%d by %q: %s", a.status, version, a.body)
							}
						}
					})
				}
				log.await("version taken back", "model=score from=2 to=1 breaker=open", "rollback=swapped", "why="+tc.why)
				log.await("model.rolled_back", "from=2")
				stop.Store(true)
				wg.Wait()
				if bad := int64(app.asked("score@2")); bad == 0 || failed.Load() > bad {
					t.Errorf("%d requests failed, %d of them by the bad version", failed.Load(), bad)
				}
				s.onlyVersion1(app)
				s.saysWhy(tc.why)
			})
			t.Run("restarted", func(t *testing.T) {
				log := newAuditLog(t)
				s := newStand(t, standConfig{source: source, models: models, logTo: log})
				log.await("model.quarantined", "drop=v2", "was rolled back", "why="+tc.why) // it was found again, and refused
				s.onlyVersion1(app)
				s.saysWhy(tc.why)
			})
		})
	}
}
