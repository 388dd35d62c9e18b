package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/policy"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
)

// judges serves quadnine.model.v1.EvidenceService.
type judges struct {
	modelv1.UnimplementedEvidenceServiceServer

	pool *Pool
	done <-chan struct{} // closed: the server ends
}

// StreamEvidence implements modelv1.EvidenceServiceServer.
func (e *judges) StreamEvidence(stream modelv1.EvidenceService_StreamEvidenceServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	e.pool.count(1)
	defer e.pool.count(-1)
	in, ended := make(chan *modelv1.StreamEvidenceRequest), make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	var last []trial // of the last report
	told := uint64(0)
	_, _, more := e.pool.since(told) // what there is goes with the first answer
	for {
		var out modelv1.StreamEvidenceResponse
		select {
		case <-e.done:
			return status.Error(codes.Unavailable, "the server ends")
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err // the sidecar's matter: it comes again
		case m := <-in:
			trials, blocked, err := reported(m)
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			e.pool.learn(m.GetNode(), blocked)
			out.Sequence = m.GetSequence()
			for _, o := range e.pool.report(m.GetNode(), m.GetSequence(), trials) {
				out.Verdicts = append(out.Verdicts, o.encode())
			}
			last = trials
		case <-more:
			for _, o := range e.pool.opinions(last) {
				out.Verdicts = append(out.Verdicts, o.encode())
			}
		}
		var blocks []opinion
		blocks, told, more = e.pool.since(told)
		for _, o := range blocks {
			out.Verdicts = append(out.Verdicts, o.encode())
		}
		if out.GetSequence() == 0 && len(out.GetVerdicts()) == 0 {
			continue // of no interest here
		}
		if err := stream.Send(&out); err != nil {
			return err
		}
	}
}

func (o *opinion) encode() *modelv1.Verdict {
	decision := map[policy.Verdict]modelv1.Verdict_Decision{policy.Promote: modelv1.Verdict_PROMOTE, policy.Rollback: modelv1.Verdict_BLOCK}
	return &modelv1.Verdict{
		Version:  &modelv1.Version{Model: o.version.Model, Number: o.version.Number, Root: o.version.Root[:]},
		Decision: decision[o.verdict], Reason: o.reason, Expect: o.expect, Sidecars: uint32(o.sidecars),
	}
}

// reported checks a report as a whole: a sidecar that sends anything else is not
// counted.
func reported(m *modelv1.StreamEvidenceRequest) (trials []trial, blocked []VersionID, err error) {
	if n := m.GetNode(); n == "" || len(n) > maxReasonBytes || !utf8.ValidString(n) {
		return nil, nil, errors.New("node: want a name of at most 1,024 bytes")
	}
	if trials, blocks := len(m.GetTrials()), len(m.GetBlocked()); trials > maxVersions || blocks > maxBlocks {
		return nil, nil, fmt.Errorf("trials, blocked: has %d and %d, want at most %d and %d", trials, blocks, maxVersions, maxBlocks)
	}
	for i, t := range m.GetTrials() {
		one, err := trialOf(t)
		if err != nil {
			return nil, nil, fmt.Errorf("trials[%d].%w", i, err)
		}
		one.id = trialID{m.GetIncarnation(), t.GetNumber()}
		trials = append(trials, one)
	}
	for i, v := range m.GetBlocked() {
		id, err := versionOf(v)
		if err != nil {
			return nil, nil, fmt.Errorf("blocked[%d]: %w", i, err)
		}
		blocked = append(blocked, id)
	}
	return trials, blocked, nil
}

func versionOf(m *modelv1.Version) (v VersionID, err error) {
	v.Model, v.Number = m.GetModel(), m.GetNumber()
	if copy(v.Root[:], m.GetRoot()) != len(v.Root) || len(m.GetRoot()) != len(v.Root) {
		return v, fmt.Errorf("root: has %d bytes, want 32", len(m.GetRoot()))
	}
	if v.Model == "" || len(v.Model) > maxReasonBytes || strings.ContainsFunc(v.Model, func(r rune) bool { return r < ' ' }) || v.Number == 0 {
		return v, errors.New("model and number: want a name and a number above 0")
	}
	return v, nil
}

func trialOf(m *modelv1.Trial) (t trial, err error) {
	if t.canary, err = versionOf(m.GetCanary()); err != nil {
		return t, fmt.Errorf("canary.%w", err)
	}
	if t.active, err = versionOf(m.GetActive()); err != nil {
		return t, fmt.Errorf("active.%w", err)
	}
	s := &t.summary
	b := m.GetBounds()
	s.Config = policy.DefaultJudgeConfig()
	s.Config.Alpha, s.Config.Beta, s.Config.Margin, s.Config.BaselineErrorPercent = b.GetAlpha(), b.GetBeta(), b.GetMargin(), b.GetBaselineErrorPercent()
	s.Config.MinRequests, s.Config.MinFailures = int(b.GetMinRequests()), int(b.GetMinFailures())
	s.Unknown, s.Slow = m.GetLatencyUnknown(), m.GetSlow()
	s.Canary, s.Active = tallyOf(m.GetCanaryTally()), tallyOf(m.GetActiveTally())
	for _, d := range []struct {
		to   *time.Duration
		from *durationpb.Duration
	}{
		{&s.Config.PromoteAfter, b.GetPromoteAfter()},
		{&s.Age, m.GetAge()},
		{&s.LatencyLimit, m.GetLatencyLimit()},
		{&s.Canary.P95, m.GetCanaryTally().GetP95()},
		{&s.Active.P95, m.GetActiveTally().GetP95()},
	} {
		*d.to = d.from.AsDuration()
	}
	for _, l := range []struct {
		field    string
		to, from []float64
	}{
		{"errors_against", s.Against[:], m.GetErrorsAgainst()},
		{"errors_for", s.Clear[:], m.GetErrorsFor()},
		{"latency_against", s.Slower[:], m.GetLatencyAgainst()},
		{"latency_for", s.Faster[:], m.GetLatencyFor()},
	} {
		if copy(l.to, l.from) != len(l.to) || len(l.from) != len(l.to) {
			return t, fmt.Errorf("%s: has %d bets, this server weighs %d: run the same version on both sides", l.field, len(l.from), len(l.to))
		}
	}
	switch m.GetVeto() {
	case modelv1.Trial_NONE:
	case modelv1.Trial_NON_FINITE:
		s.Veto = policy.NonFinite
	case modelv1.Trial_ERROR_RATE:
		s.Veto = policy.ErrorRate
	case modelv1.Trial_LATENCY:
		s.Veto = policy.SlowAnswers
	default:
		return t, fmt.Errorf("veto: %d is not known here", m.GetVeto())
	}
	if err := s.Check(); err != nil {
		return t, fmt.Errorf("bounds, tallies: %w", err)
	}
	return t, nil
}

func tallyOf(m *modelv1.Tally) policy.Tally {
	return policy.Tally{Requests: m.GetRequests(), Failures: m.GetFailures(), NotFinite: m.GetNotFinite(), Timed: m.GetTimed()}
}
