package control

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/policy"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
	"github.com/quadnine/quadnine/xds/evidence"
)

var (
	v1 = VersionID{"score", 1, [32]byte{1}}
	v2 = VersionID{"score", 2, [32]byte{2}}
)

func newPool(t *testing.T, change func(*policy.PoolConfig)) *Pool {
	t.Helper()
	cfg := policy.DefaultPoolConfig()
	if change != nil {
		change(&cfg)
	}
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shown returns what a canary shows that had requests, some of which failed,
// beside an active version with 19 times as many and no failures.
func shown(t *testing.T, requests, failures int, notFinite bool) policy.Summary {
	t.Helper()
	j, err := policy.NewJudge(policy.DefaultJudgeConfig(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range requests {
		j.Record(policy.SideCanary, policy.Success, time.Millisecond)
		for range 19 {
			j.Record(policy.SideActive, policy.Success, time.Millisecond)
		}
	}
	for range failures {
		j.Record(policy.SideCanary, policy.Failure, time.Millisecond)
	}
	if notFinite {
		j.NotFinite(policy.SideCanary)
	}
	j.Verdict(int64(time.Minute))
	return j.Summary(int64(time.Minute))
}

func of(canary VersionID, incarnation, number uint64, s policy.Summary) []trial {
	return []trial{{pairID{canary, v1}, trialID{incarnation, number}, s}}
}

// Evidence that is too small for each decides together, and is counted once
// however often it is told.
func TestThreeDecideTogether(t *testing.T) {
	p := newPool(t, nil)
	small := shown(t, 250, 0, false)
	for i := range uint64(20) {
		if o := p.report("a", i+1, of(v2, 7, 1, small)); o[0].verdict != policy.Hold {
			t.Fatalf("told %d times, %v", i+1, o)
		}
	}
	if o := p.report("b", 1, of(v2, 8, 1, small)); o[0].verdict != policy.Hold || o[0].sidecars != 2 {
		t.Fatalf("two of them: %v", o)
	}
	o := p.report("c", 1, of(v2, 9, 1, small))
	if o[0].verdict != policy.Promote || o[0].sidecars != 3 || !strings.Contains(o[0].reason, "requests=750 ") {
		t.Fatalf("three of them: %+v", o)
	}
	if o := p.report("a", 21, of(v2, 7, 1, small)); o[0].verdict != policy.Promote {
		t.Errorf("the first was not told: %+v", o)
	}
}

// An older report, one of another start and one of another root are told apart.
func TestReportsAreToldApart(t *testing.T) {
	p := newPool(t, nil)
	p.report("a", 5, of(v2, 7, 1, shown(t, 200, 0, false)))
	p.report("a", 4, of(v2, 7, 1, shown(t, 100, 0, false))) // late
	p.report("a", 1, of(v2, 8, 1, shown(t, 30, 0, false)))  // started anew
	other := v2
	other.Root[0] = 99
	p.report("a", 2, of(other, 8, 2, shown(t, 3, 0, false)))
	all := p.Versions()
	if len(all) != 2 || all[0].Trials[0].Sidecars[0].Requests != 230 || all[0].Trials[0].Sidecars[0].Trials != 2 || all[1].Trials[0].Sidecars[0].Requests != 3 {
		t.Errorf("%+v", all)
	}
}

func TestBlockReachesWhoComesLater(t *testing.T) {
	p := newPool(t, nil)
	p.report("b", 1, of(v2, 8, 1, shown(t, 100, 0, false)))
	if o := p.report("a", 1, of(v2, 7, 1, shown(t, 100, 0, true))); o[0].verdict != policy.Rollback {
		t.Fatalf("%+v", o)
	}
	blocks, n, _ := p.since(0)
	if len(blocks) != 1 || n != 1 || blocks[0].version != v2 || !strings.Contains(blocks[0].reason, "why=non-finite") {
		t.Fatalf("%+v", blocks)
	}
	if again, _, _ := p.since(1); len(again) != 0 {
		t.Errorf("told twice: %+v", again)
	}
	// Nothing takes a block's place, and a promotion gives way to one.
	p.report("b", 2, of(v2, 8, 1, shown(t, 5_000, 0, false)))
	if v := p.Versions()[0]; v.Decision != "block" || v.Node != "a" {
		t.Errorf("%+v", v)
	}
	v3 := VersionID{"score", 3, [32]byte{3}}
	p.report("b", 3, of(v3, 8, 2, shown(t, 5_000, 0, false)))
	if v := p.Versions()[1]; v.Decision != "promote" {
		t.Errorf("%+v", v)
	}
	p.report("a", 3, of(v3, 7, 2, shown(t, 5, 0, true)))
	if v := p.Versions()[1]; v.Decision != "block" {
		t.Errorf("%+v", v)
	}
}

// A server that was started anew learns from the sidecars, unless one's word is
// not to count.
func TestBlocksAreLearnt(t *testing.T) {
	for spread, want := range map[policy.VetoSpread]int{policy.SpreadNonFinite: 1, policy.SpreadAny: 1, policy.SpreadNone: 0} {
		p := newPool(t, func(c *policy.PoolConfig) { c.Spread = spread })
		p.learn("a", []VersionID{v2})
		p.learn("b", []VersionID{v2})
		if blocks, _, _ := p.since(0); len(blocks) != want {
			t.Errorf("%v: %+v", spread, blocks)
		}
	}
}

// What is remembered is bounded, in number and in time.
func TestPoolForgets(t *testing.T) {
	p := newPool(t, nil)
	at := time.Unix(0, 0)
	p.now = func() time.Time { return at }
	s := shown(t, 1, 0, false)
	for n := range uint64(maxVersions + 10) {
		at = at.Add(time.Second)
		p.report("a", n+1, of(VersionID{"m", n + 1, [32]byte{}}, 1, n, s))
	}
	if len(p.pairs) != maxVersions || p.Versions()[0].Number != 11 {
		t.Errorf("%d pairs, the first of v%d", len(p.pairs), p.Versions()[0].Number)
	}
	at = at.Add(forgetVersion + time.Second)
	p.report("a", 1e6, of(v2, 1, 1e6, s))
	if len(p.pairs) != 1 {
		t.Errorf("%d pairs after a day", len(p.pairs))
	}
	for n := range uint64(maxTrials + 5) {
		p.report("a", 1e6+n, of(v2, 2, n, s))
	}
	if n := p.Versions()[0].Trials[0].Sidecars[0].Trials; n != maxTrials {
		t.Errorf("%d trials of one sidecar", n)
	}
	for n := range uint64(maxBlocks + 10) {
		p.learn("a", []VersionID{{"blocked", n + 1, [32]byte{}}})
	}
	blocks, told, _ := p.since(0)
	if len(blocks) != maxBlocks || told != maxBlocks+10 || blocks[0].version.Number != 11 {
		t.Errorf("%d blocks of %d, from v%d", len(blocks), told, blocks[0].version.Number)
	}
	// A sidecar that was started often is heard all the same.
	if o := p.report("a", 1, of(v2, 99, 1, shown(t, 1, 0, true))); o[0].verdict != policy.Rollback {
		t.Errorf("the newest trial's veto: %+v", o)
	}
}

// link is a server with a pool, and streams to it, in memory.
func link(t *testing.T, p *Pool) func(ctx context.Context) modelv1.EvidenceService_StreamEvidenceClient {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	modelv1.RegisterEvidenceServiceServer(g, &judges{pool: p, done: make(chan struct{})})
	go func() { _ = g.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///pool", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
	})
	return func(ctx context.Context) modelv1.EvidenceService_StreamEvidenceClient {
		s, err := modelv1.NewEvidenceServiceClient(conn).StreamEvidence(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// A block is pushed to every stream, also to one that has nothing to report.
func TestBlockIsPushed(t *testing.T) {
	p := newPool(t, nil)
	s := link(t, p)(t.Context())
	if err := s.Send(&modelv1.StreamEvidenceRequest{Node: "idle", Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Recv(); err != nil || r.GetSequence() != 1 || len(r.GetVerdicts()) != 0 {
		t.Fatalf("%v, %v", r, err)
	}
	p.report("a", 1, of(v2, 7, 1, shown(t, 1, 0, true)))
	r, err := s.Recv()
	if err != nil || len(r.GetVerdicts()) != 1 || r.GetVerdicts()[0].GetDecision() != modelv1.Verdict_BLOCK || r.GetVerdicts()[0].GetVersion().GetNumber() != 2 {
		t.Fatalf("%v, %v", r, err)
	}
}

// A report that cannot be weighed ends the stream, with the field's path, and
// counts for nothing.
func TestBadReports(t *testing.T) {
	version := func(n uint64) *modelv1.Version {
		return &modelv1.Version{Model: "m", Number: n, Root: make([]byte, 32)}
	}
	sound := func() *modelv1.Trial {
		return &modelv1.Trial{
			Canary: version(2), Active: version(1),
			Bounds:        &modelv1.Bounds{Alpha: .001, Beta: .01, Margin: 10, BaselineErrorPercent: .1, MinRequests: 1, MinFailures: 1},
			ErrorsAgainst: make([]float64, 6), ErrorsFor: make([]float64, 2), LatencyAgainst: make([]float64, 6), LatencyFor: make([]float64, 2),
		}
	}
	p := newPool(t, nil)
	open := link(t, p)
	for want, change := range map[string]func(*modelv1.StreamEvidenceRequest, *modelv1.Trial){
		"node: want a name":                  func(m *modelv1.StreamEvidenceRequest, _ *modelv1.Trial) { m.Node = "" },
		"trials[0].canary.root: has 3 bytes": func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.Canary.Root = []byte("abc") },
		"trials[0].active.model and number":  func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.Active.Number = 0 },
		"trials[0].errors_for: has 1 bets":   func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.ErrorsFor = []float64{1} },
		"trials[0].veto: 9":                  func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.Veto = 9 },
		"alpha":                              func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.Bounds.Alpha = 2 },
		"no evidence":                        func(_ *modelv1.StreamEvidenceRequest, t *modelv1.Trial) { t.LatencyFor[1] = math.Inf(1) },
		"trials, blocked: has 0 and 1025": func(m *modelv1.StreamEvidenceRequest, _ *modelv1.Trial) {
			m.Trials, m.Blocked = nil, make([]*modelv1.Version, maxBlocks+1)
		},
		"blocked[0]: root": func(m *modelv1.StreamEvidenceRequest, _ *modelv1.Trial) { m.Blocked = []*modelv1.Version{{Model: "m"}} },
	} {
		tr := sound()
		tr.Bounds.PromoteAfter = durationpb.New(time.Second)
		m := &modelv1.StreamEvidenceRequest{Node: "a", Sequence: 1, Trials: []*modelv1.Trial{tr}}
		change(m, tr)
		s := open(t.Context())
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, r, err)
		}
	}
	if len(p.Versions()) != 0 {
		t.Errorf("counted: %+v", p.Versions())
	}
}

// The sidecar's side says again what it said after a break, and tells whether it
// is heard; the pool counts it once.
func TestClientAndPool(t *testing.T) {
	p := newPool(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(ln net.Listener) *grpc.Server {
		g := grpc.NewServer()
		modelv1.RegisterEvidenceServiceServer(g, &judges{pool: p, done: make(chan struct{})})
		go func() { _ = g.Serve(ln) }()
		return g
	}
	g := serve(ln)
	s := shown(t, 100, 1, false)
	connected, decided := make(chan bool, 16), make(chan []evidence.Verdict, 16)
	root := [32]byte{2}
	c := evidence.New(evidence.Options{
		Target: ln.Addr().String(), Node: "a", Every: time.Millisecond,
		Report: func() []evidence.Trial {
			return []evidence.Trial{{Number: 1, Canary: evidence.Version{Model: "score", Number: 2, Root: root}, Active: evidence.Version{Model: "score", Number: 1, Root: [32]byte{1}}, Summary: s}}
		},
		Blocked:   func() []evidence.Version { return []evidence.Version{{Model: "old", Number: 1}} },
		Connected: func(up bool) { connected <- up },
		Decided: func(v []evidence.Verdict) {
			select {
			case decided <- v:
			default:
			}
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	for range 2 {
		for up := false; !up; {
			up = <-connected
		}
		for told := false; !told; {
			for _, v := range <-decided {
				told = told || v.Version.Number == 2 && v.Decision == policy.Hold && v.Sidecars == 1 && strings.Contains(v.Expect, "101 of ")
			}
		}
		g.Stop()
		if up := <-connected; up {
			t.Fatal("connected without a server")
		}
		for len(decided) > 0 {
			<-decided
		}
		again, err := net.Listen("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		g = serve(again)
	}
	defer func() { g.Stop() }()
	all := p.Versions()
	if len(all) != 2 || all[0].Model != "old" || all[0].Decision != "block" || all[1].Trials[0].Sidecars[0].Requests != 101 {
		t.Errorf("%+v", all)
	}
	w := httptest.NewRecorder()
	(&Server{pool: p}).models(w, httptest.NewRequest(http.MethodGet, "/models", nil))
	for _, want := range []string{`"old"@1 block`, `"score"@2 hold`, "beside @1: verdict=hold", `"a": 101 requests, 1 failed`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/models lacks %q:\n%s", want, w.Body.String())
		}
	}
}

// A server that takes reports and never answers is no pool.
func TestDeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		go func() { _, _ = far.Read(make([]byte, 1<<16)) }()
		up := make(chan bool, 4)
		c := evidence.New(evidence.Options{
			Target: "nobody:1", Node: "a", Report: func() []evidence.Trial { return nil }, Blocked: func() []evidence.Version { return nil },
			Decided: func([]evidence.Verdict) {}, Connected: func(u bool) { up <- u },
			Dial: func(context.Context, string) (net.Conn, error) { return near, nil },
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		if <-up {
			t.Error("a server that says nothing is a pool")
		}
		stop()
		<-done
	})
}
