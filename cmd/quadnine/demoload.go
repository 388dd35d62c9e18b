package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
)

const demoWorkers = 32

// demoLoad asks queries at a steady rate and checks every number.
type demoLoad struct {
	base    string
	client  *http.Client
	queries []demoQuery
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	once    sync.Once

	mu      sync.Mutex
	sum     demoTotal       // guarded by mu
	period  demoPeriod      // guarded by mu; since mark
	latency []time.Duration // guarded by mu; of fresh replies
	loss    error           // guarded by mu; the first
}

type demoQuery struct {
	tenant, path string
	want         float64
	wants        map[string]float64 // by the version that answered, instead of want
}

// right reports whether a reply has the number that it must have.
func (q *demoQuery) right(r demoReply) bool {
	want := q.want
	if q.wants != nil {
		var known bool
		if want, known = q.wants[r.version]; !known {
			return false
		}
	}
	return math.Abs(r.value-want) <= 1e-12*math.Abs(want)
}

// demoTotal counts the whole run. Lost is everything that is not a whole 200
// with a number; wrong is a number that differs from the service's own.
type demoTotal struct{ sent, lost, wrong int64 }

// demoPeriod is what happened since a mark.
type demoPeriod struct {
	sent, bad            int64
	stale                int64
	oldest               int64     // s
	firstRejected        time.Time // first reply with reason=breaker-open
	othersSent, othersOK int64     // tenants other than the faulty one
	versions             map[string]int64
	staleTimes, others   []time.Duration
	staleP50, othersP99  time.Duration
}

// newDemoLoad prepares the queries; their right answers come from app itself.
func newDemoLoad(addr string, app *statsapp.App) (*demoLoad, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	l := &demoLoad{
		base:   "http://" + addr,
		client: &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}, Timeout: time.Minute},
		cancel: func() {},
	}
	from, to := statsapp.SeedStart, statsapp.SeedStart+int64(24*time.Hour/time.Millisecond)
	for _, tenant := range demoTenants {
		for _, metric := range demoMetrics {
			want, err := app.Query(statsapp.Query{Tenant: tenant, Metric: metric, From: from, To: to})
			if err != nil {
				return nil, err
			}
			l.queries = append(l.queries, demoQuery{
				tenant: tenant, want: want.Value,
				path: fmt.Sprintf("/api/v2/metrics/query?tenant=%s&metric=%s&from=%d&to=%d", tenant, metric, from, to),
			})
		}
	}
	for _, tenant := range demoTenants {
		if tenant == demoFaulty {
			continue
		}
		ratio, err := demoRatio(app, tenant, from, to)
		if err != nil {
			return nil, err
		}
		q := demoQuery{tenant: tenant, wants: make(map[string]float64), path: fmt.Sprintf("/api/v2/metrics/query?tenant=%s&metric=score&from=%d&to=%d", tenant, from, to)}
		for _, v := range demoVersions {
			if !math.IsNaN(v.scale) {
				q.wants[fmt.Sprintf("%s@%d", demoModel, v.number)] = v.scale*ratio + v.bias
			}
		}
		l.queries = append(l.queries, q)
	}
	return l, nil
}

// demoRatio is uv/pv as the service itself counts them.
func demoRatio(app *statsapp.App, tenant string, from, to int64) (float64, error) {
	var v [2]float64
	for i, metric := range []string{"uv", "pv"} {
		r, err := app.Query(statsapp.Query{Tenant: tenant, Metric: metric, From: from, To: to})
		if err != nil {
			return 0, err
		}
		v[i] = r.Value
	}
	return v[0] / v[1], nil
}

// warm asks every query once, so that each has a stored reply.
func (l *demoLoad) warm(ctx context.Context) error {
	for _, q := range l.queries {
		if _, err := l.ask(ctx, q, "0"); err != nil {
			return err
		}
	}
	return nil
}

// run asks at demoRequests a second until stop. A quarter of the queries is one
// metric of the tenant that will fail.
func (l *demoLoad) run(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	hot := slices.IndexFunc(l.queries, func(q demoQuery) bool { return q.tenant == demoFaulty })
	for w := range demoWorkers {
		l.wg.Go(func() {
			every := demoWorkers * time.Second / demoRequests
			if pause(ctx, every*time.Duration(w)/demoWorkers) != nil { // spread over the interval: no bursts
				return
			}
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := w; ; n += 7 {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				q := l.queries[n%len(l.queries)]
				if n%4 == 0 {
					q = l.queries[hot]
				}
				// Once asked, a query is waited for: an interrupted demo loses none.
				l.record(q, l.measure(context.WithoutCancel(ctx), q, strconv.Itoa(n%251)))
			}
		})
	}
}

func (l *demoLoad) stop() {
	l.once.Do(func() {
		l.cancel()
		l.wg.Wait()
		l.client.CloseIdleConnections()
	})
}

// demoReply is one reply as the client saw it.
type demoReply struct {
	value    float64
	degraded string // x-quadnine-degraded
	version  string // x-quadnine-model
	path     string
	took     time.Duration
	at       time.Time
	err      error
}

var errNoNumber = errors.New("no number in the reply")

func (l *demoLoad) measure(ctx context.Context, q demoQuery, user string) demoReply {
	begin := time.Now()
	r, err := l.ask(ctx, q, user)
	r.at = time.Now()
	r.took, r.err = r.at.Sub(begin), err
	return r
}

func (l *demoLoad) ask(ctx context.Context, q demoQuery, user string) (demoReply, error) {
	r := demoReply{path: q.path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+q.path, http.NoBody)
	if err != nil {
		return r, err
	}
	req.Header.Set("X-User-Id", user) // callers stay on the version that they draw
	resp, err := l.client.Do(req)
	if err != nil {
		return r, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, err
	}
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("%s: %d: %s", q.path, resp.StatusCode, strings.TrimSpace(string(body)))
	}
	var got struct{ Value *float64 }
	if err := json.Unmarshal(body, &got); err != nil || got.Value == nil {
		return r, fmt.Errorf("%s: %w: %q", q.path, errNoNumber, body)
	}
	r.value, r.degraded, r.version = *got.Value, resp.Header.Get("X-Quadnine-Degraded"), resp.Header.Get("X-Quadnine-Model")
	return r, nil
}

func (l *demoLoad) record(q demoQuery, r demoReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.period
	l.sum.sent++
	p.sent++
	right := r.err == nil && q.right(r)
	switch {
	case r.err != nil:
		l.sum.lost++
		if l.loss == nil {
			l.loss = r.err
		}
	case !right:
		l.sum.wrong++
		if l.loss == nil {
			l.loss = fmt.Errorf("%s: got %v by %q, want %v %v", q.path, r.value, r.version, q.want, q.wants)
		}
	}
	if !right {
		p.bad++
	}
	if r.version != "" {
		if p.versions == nil {
			p.versions = make(map[string]int64)
		}
		p.versions[r.version]++
	}
	if r.degraded != "" {
		p.stale++
		p.staleTimes = append(p.staleTimes, r.took)
		if _, age, ok := strings.Cut(r.degraded, "age="); ok {
			if n, err := strconv.ParseInt(age, 10, 64); err == nil {
				p.oldest = max(p.oldest, n)
			}
		}
		if q.tenant == demoFaulty && p.firstRejected.IsZero() && strings.Contains(r.degraded, "reason=breaker-open") {
			p.firstRejected = r.at
		}
	} else if right {
		l.latency = append(l.latency, r.took)
	}
	if q.tenant != demoFaulty {
		p.othersSent++
		if right && r.degraded == "" {
			p.othersOK++
		}
		p.others = append(p.others, r.took)
	}
}

// sample asks the faulty tenant's query once, to show its reply.
func (l *demoLoad) sample(ctx context.Context) (demoReply, error) {
	i := slices.IndexFunc(l.queries, func(q demoQuery) bool { return q.tenant == demoFaulty })
	return l.ask(ctx, l.queries[i], "0")
}

func (l *demoLoad) total() demoTotal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sum
}

func (l *demoLoad) firstLoss() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loss
}

// mark begins a new period.
func (l *demoLoad) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.period = demoPeriod{}
}

// since returns what happened in the period so far.
func (l *demoLoad) since() demoPeriod {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.period
	p.versions = maps.Clone(p.versions)
	p.staleP50 = quantile(slices.Clone(p.staleTimes), 0.5)
	p.othersP99 = quantile(slices.Clone(p.others), 0.99)
	return p
}

func (l *demoLoad) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return quantile(slices.Clone(l.latency), q)
}

// quantile sorts d and returns the value below which the share q lies.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}
