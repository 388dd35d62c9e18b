package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/telemetry"
	"github.com/quadnine/quadnine/xds/evidence"
)

// judgeFlags say what canaries must show, and who weighs it.
type judgeFlags struct {
	bounds        []string // key=value, of policy.JudgeConfig
	server        string   // URL of `quadnine control`; "": every sidecar is on its own
	ca, cert, key string   // files
	node          string   // who reports; "": the host's name and the store
	every         time.Duration
}

func (f *judgeFlags) flags(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.bounds, "model-judge", nil, "what canaries must show, as key=value: alpha, beta, margin, baselineErrorPercent, minFailures, latencyRatio, latencyFloor, latencyMinSamples, maxWait, atMaxWait")
	fl.StringVar(&f.server, "model-pool", "", "URL (http:// or https://) of a quadnine control that weighs what canaries show on all sidecars together")
	fl.StringVar(&f.ca, "model-pool-ca", "", "with https://: file of the authorities that its certificate must be of (default: the system's)")
	fl.StringVar(&f.cert, "model-pool-cert", "", "with https://: certificate file to show it")
	fl.StringVar(&f.key, "model-pool-key", "", "its key file")
}

// config returns the judge's thresholds.
func (f *judgeFlags) config() (policy.JudgeConfig, error) {
	cfg := policy.DefaultJudgeConfig()
	for _, b := range f.bounds {
		key, value, ok := strings.Cut(b, "=")
		if !ok {
			return cfg, fmt.Errorf("--model-judge %q: want key=value, like beta=0.01", b)
		}
		if err := cfg.Set(key, value); err != nil {
			return cfg, fmt.Errorf("--model-judge: %w", err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("--model-judge: %w", err)
	}
	return cfg, nil
}

// target returns where the pool is and what secures the way to it.
func (f *judgeFlags) target() (address string, creds credentials.TransportCredentials, err error) {
	if f.server == "" {
		if f.ca != "" || f.cert != "" || f.key != "" {
			return "", nil, errors.New("--model-pool-ca, --model-pool-cert, --model-pool-key: name the server with --model-pool")
		}
		return "", nil, nil
	}
	u, err := url.Parse(f.server)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", nil, fmt.Errorf("--model-pool %q: want http://HOST:PORT or https://HOST:PORT", f.server)
	}
	if u.Scheme == "http" {
		if f.ca != "" || f.cert != "" || f.key != "" {
			return "", nil, errors.New("--model-pool-ca, --model-pool-cert, --model-pool-key: only with https://")
		}
		return u.Host, nil, nil
	}
	if (f.cert == "") != (f.key == "") {
		return "", nil, errors.New("--model-pool-cert, --model-pool-key: give both or none")
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", nil, fmt.Errorf("--model-pool %q: %w", f.server, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return "", nil, fmt.Errorf("--model-pool-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return "", nil, fmt.Errorf("--model-pool-ca %s: no certificate in it", f.ca)
		}
	}
	if f.cert != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(f.cert, f.key)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return "", nil, fmt.Errorf("--model-pool-cert: %w", err)
		}
		// Read anew for each connection: files that change hold for the next.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return u.Host, credentials.NewTLS(c), nil
}

// check refuses what cannot be followed, before anything is started. models says
// whether there are any.
func (f *judgeFlags) check(models bool) error {
	_, err := f.config()
	if err == nil {
		_, _, err = f.target()
	}
	if err == nil && !models && (f.server != "" || len(f.bounds) > 0) {
		err = errors.New("--model-judge, --model-pool: without --models or --model-bucket there is nothing to judge")
	}
	if err != nil {
		return usage(err)
	}
	return nil
}

// pool is a sidecar's side of the pool of judges.
type pool struct {
	server string // "": there is none
	client *evidence.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	connected bool                      // guarded by mu
	blocked   map[evidence.Version]bool // guarded by mu; what was handed to the loader
	began     uint64                    // guarded by mu; trials so far
}

// openPool makes ready to report what trials show, before the loader asks for the
// first verdict. start begins, once the loader is open.
func (a *models) openPool(f *judgeFlags, store string) (start func(), err error) {
	address, creds, err := f.target()
	if err != nil || address == "" {
		return func() {}, err
	}
	node := f.node
	if node == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("--model-pool: this host has no name to report under: %w", err)
		}
		node = host + ":" + store
	}
	p := &a.pool
	ctx, cancel := context.WithCancel(context.Background())
	p.server, p.cancel = f.server, cancel
	p.blocked = make(map[evidence.Version]bool)
	p.client = evidence.New(evidence.Options{
		Target: address, Credentials: creds, Node: node, Every: f.every, Log: a.log,
		Report: a.reported, Blocked: a.knownBlocks, Connected: a.poolConnected,
		Decided: func(of []evidence.Verdict) { a.poolDecided(ctx, of) },
	})
	return func() {
		for _, v := range a.knownBlocks() {
			p.blocked[v] = true // the server tells them again: that is no news
		}
		p.wg.Go(func() { p.client.Run(ctx) })
		a.registry.Gauge(telemetry.ModelPooled, func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.connected {
				return 1
			}
			return 0
		})
	}, nil
}

func (p *pool) close() {
	if p.cancel != nil {
		p.cancel()
		p.wg.Wait()
	}
}

// nudge tells the pool at once: a canary was taken back here.
func (p *pool) nudge() {
	if p.client != nil {
		p.client.Nudge()
	}
}

// enter makes a new trial known to the pool, and publishes it before the
// connection can come or go: whoever is told of that tells every trial.
func (p *pool) enter(t *trial, publish func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began++
	t.number = p.began
	if p.connected {
		t.judge.SetPooling(policy.PoolDecides)
	}
	publish()
}

func identity(i *loader.Info) evidence.Version {
	return evidence.Version{Model: i.Model, Number: i.Number, Root: i.Root}
}

// reported returns every model's last trial.
func (a *models) reported() (out []evidence.Trial) {
	trials := *a.trials.Load()
	for _, name := range slices.Sorted(maps.Keys(trials)) {
		t := trials[name]
		out = append(out, evidence.Trial{Number: t.number, Canary: t.of[policy.SideCanary], Active: t.of[policy.SideActive], Summary: t.judge.Summary(a.now())})
	}
	return out
}

func (a *models) knownBlocks() (out []evidence.Version) {
	for _, b := range a.loader.Blocked() {
		out = append(out, evidence.Version{Model: b.Model, Number: b.Number, Root: b.Root})
	}
	return out
}

// poolConnected lets each judge promote by itself while there is no pool.
func (a *models) poolConnected(connected bool) {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	a.pool.connected = connected
	for _, t := range *a.trials.Load() {
		switch {
		case t.judge.Pooling() == policy.PoolPromotes:
		case connected:
			t.judge.SetPooling(policy.PoolDecides)
		default:
			t.judge.SetPooling(policy.Alone)
			t.pooled.Store(nil)
		}
	}
}

// poolDecided acts on what the pool says.
func (a *models) poolDecided(ctx context.Context, of []evidence.Verdict) {
	for i := range of {
		v := &of[i]
		if v.Decision == policy.Rollback {
			a.poolBlocks(ctx, v)
			continue
		}
		for _, t := range *a.trials.Load() {
			if t.of[policy.SideCanary] != v.Version {
				continue
			}
			t.pooled.Store(v)
			if v.Decision == policy.Promote {
				t.judge.SetPooling(policy.PoolPromotes) // the loader asks the judge at its next look
			}
		}
	}
}

// poolBlocks has the loader refuse a version, once.
func (a *models) poolBlocks(ctx context.Context, v *evidence.Verdict) {
	a.pool.mu.Lock()
	known := a.pool.blocked[v.Version]
	a.pool.mu.Unlock()
	if known {
		return
	}
	reason := "blocked by the pool: " + v.Reason
	err := a.loader.Block(ctx, loader.Block{Model: v.Version.Model, Number: v.Version.Number, Root: v.Version.Root, Reason: reason})
	if ctx.Err() != nil {
		return // the next start is told again
	}
	a.pool.mu.Lock()
	if len(a.pool.blocked) >= 4096 { // what is forgotten is handed over once more
		a.pool.blocked = make(map[evidence.Version]bool)
	}
	a.pool.blocked[v.Version] = true
	a.pool.mu.Unlock()
	a.registry.Count(telemetry.ModelBlocked, 1)
	if err != nil {
		a.log.Warn("version blocked, and not as it should be: see err", "model", v.Version.Model, "version", v.Version.Number, "reason", reason, "err", err)
		return
	}
	a.log.Warn("version blocked", "model", v.Version.Model, "version", v.Version.Number, "reason", reason)
}

// expect says how long the decision on a trial takes.
func (a *models) expect(t *trial, e *policy.Evidence) string {
	if a.pool.server == "" {
		return e.Expect()
	}
	if v := t.pooled.Load(); v != nil {
		return "judged together, " + v.Expect
	}
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	if a.pool.connected {
		return "judged together: " + e.Expect()
	}
	return "judged here alone, as " + a.pool.server + " cannot be reached: " + e.Expect()
}
