package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/telemetry"
)

// Bounds of one evaluation.
const (
	MaxInputs = 64 // values
	MaxAsked  = 16 // metrics that the upstream is asked for: each is an exchange
)

var (
	errNoModel    = errors.New("no version of the model can answer now")
	errNotHTTP    = errors.New("this metric is computed here, for HTTP queries: GET, HEAD, or POST with a body of up to 64 KiB")
	errManyInputs = errors.New("the version wants more inputs than an evaluation may have")
	errNotTaken   = errors.New("not what the version takes")
	errBusy       = errors.New("every worker is busy")
	errBrokenOff  = errors.New("the reply broke off")
	errInputRoom  = errors.New("no memory left for the reply, other requests hold it: ask later")
	errRowsRoom   = errors.New("no memory left for an answer of so many rows: ask for fewer, or later")
)

// phase is how far an embedded answer is.
type phase uint8

const (
	phaseAsk      phase = iota // nothing was asked for yet
	phaseInputs                // the inputs' exchanges are under way
	phaseEvaluate              // a worker has it, or had
)

// compute answers with a number that the version computes from the upstream's
// own replies, never from what the caller sends: an exchange for each input goes
// through the ordinary pipeline, with a breaker, a stored reply and a peer of
// its own.
type compute struct{ *loop }

func (c compute) Step(x *Exchange) Verdict {
	if x.model == nil || !x.embedded() {
		return Continue
	}
	if x.lease.Version == nil || len(x.lease.Version.Inputs) == 0 {
		x.fail(quadnine.Unavailable, quadnine.Local, "model", policy.ModelMissing, errNoModel)
		return Reply
	}
	if x.phase == phaseAsk && !x.ask() {
		return Reply
	}
	if x.phase == phaseInputs {
		for i := range x.inputs {
			if !x.inputs[i].done {
				return Wait
			}
		}
		if !x.usable() || !x.evaluate() {
			return Reply
		}
	}
	if x.evaluating {
		return Wait
	}
	if !x.conclude() {
		return c.Step(x) // another version answers
	}
	return Reply
}

// ask begins the inputs' exchanges, or fails.
func (x *Exchange) ask() bool {
	metrics := x.lease.Version.asks()
	switch {
	case len(metrics) > MaxAsked || len(x.lease.Version.Inputs) > MaxInputs:
		x.fail(quadnine.Internal, quadnine.Local, "inputs", policy.Unspecified, errManyInputs)
		return false
	case x.grpc, x.method != methodGet && x.method != methodHead && !x.collected:
		x.fail(quadnine.Unsupported, quadnine.Downstream, "inputs", policy.Unspecified, errNotHTTP)
		return false
	}
	x.phase = phaseInputs
	x.inputs = make([]input, len(metrics))
	for i, name := range metrics {
		x.inputs[i].begin(x, name)
	}
	return true
}

// usable reports whether every input is a reply to compute from. If not, the
// upstream's own answer to an input becomes the reply, or the input's error the
// exchange's.
func (x *Exchange) usable() bool {
	for i := range x.inputs {
		in := &x.inputs[i]
		switch {
		case !in.whole || in.broken || in.explained:
			x.failInput(in)
			return false
		case in.crowded:
			x.fail(quadnine.Unavailable, quadnine.Local, "input", policy.Overload, fmt.Errorf("input %s: %w", in.metric, errInputRoom))
			return false
		case in.long && x.lease.Version.Rows != "": // how many rows is the caller's wish
			x.refuseInput(fmt.Errorf("input %s: the reply is longer than %d bytes, which is the most for a query of several rows: ask for fewer", in.metric, maxInput))
			return false
		case in.long:
			x.badInput(fmt.Errorf("input %s: the reply is longer than %d bytes", in.metric, maxInput))
			return false
		case in.status != 200:
			x.observe(policy.Neutral, policy.Unspecified) // the input's own key has counted it
			x.isLocal, x.status, x.reply = true, in.status, in.body
			x.resp.CopyFrom(&in.head)
			x.step, x.firstErr = in.step, in.err
			return false
		}
	}
	return true
}

// failInput makes the input's error the exchange's, naming the input. The
// input's own key has counted it, so the exchange's does not.
func (x *Exchange) failInput(in *input) {
	x.observe(policy.Neutral, policy.Unspecified)
	x.asked = x.asked || in.asked // the peers could not help
	e := quadnine.Error{Code: quadnine.BadGateway, Origin: quadnine.Upstream, Reason: policy.UpstreamReset.String(), Err: errBrokenOff}
	if in.err != nil {
		e = *in.err
	}
	why := error(&e)
	if e.Err != nil {
		why = e.Err
	}
	e.Key = quadnine.Key{Tenant: x.Key.Tenant, Metric: in.metric}
	e.Op, e.Err = "input", fmt.Errorf("input %s: %w", in.metric, why)
	x.err = &e
}

// badInput blames the upstream for a reply that is no number.
func (x *Exchange) badInput(err error) {
	x.loop.tel.Count(telemetry.ModelBadInput, 1)
	x.fail(quadnine.BadGateway, quadnine.Upstream, "input", policy.BadInput, err)
}

// refuseInput explains that the version does not take an input. It is nobody's
// failure: the next tenant's input may be what it takes.
func (x *Exchange) refuseInput(err error) {
	x.observe(policy.Neutral, policy.Unspecified)
	x.loop.tel.Count(telemetry.ModelInputRefused, 1)
	x.fail(quadnine.Unprocessable, quadnine.Local, "input", policy.InputRefused, err)
}

// evaluate hands the inputs to a worker, or fails when all are busy.
func (x *Exchange) evaluate() bool {
	x.phase = phaseEvaluate
	x.subject, x.rows, x.listed, x.scoreErr, x.inputErr, x.beside = x.lease.Version, 1, false, nil, nil, x.lease.Shadow
	x.job.Task, x.job.Done.To = (*evaluation)(x), (*evaluated)(x)
	x.evaluating = x.loop.server.workers.Submit(&x.job)
	if !x.evaluating {
		x.fail(quadnine.Unavailable, quadnine.Local, "evaluate", policy.Overload, errBusy)
	}
	x.arm() // the inputs had their own time
	return x.evaluating
}

// evaluated takes the result back on the exchange's shard.
type evaluated Exchange

// Receive resumes the exchange, or frees it when it ended meanwhile.
func (e *evaluated) Receive(*shard.Mail) {
	x := (*Exchange)(e)
	x.evaluating = false
	if x.finished {
		x.loop.recycle(x)
		return
	}
	defer x.contain()
	if x.job.Panic != nil {
		x.testify(policy.Failure)
		x.crash(x.job.Panic)
		return
	}
	if x.at == atCompute { // not gone on without it
		x.run()
	}
}

// conclude makes what the worker found the reply, or an error. It reports false
// when the version was taken back meanwhile and another answers: no number of a
// version leaves after that.
func (x *Exchange) conclude() bool {
	v := x.lease.Version
	switch {
	case errors.Is(x.inputErr, errNotTaken):
		x.refuseInput(x.inputErr)
	case x.inputErr != nil:
		x.badInput(x.inputErr)
	case x.scoreErr != nil && v.Refuses != nil && v.Refuses(x.scoreErr):
		x.testify(policy.Failure) // the active version may take what a canary does not
		x.refuseInput(x.scoreErr)
	case x.scoreErr != nil && v.NotFinite != nil && v.NotFinite(x.scoreErr):
		x.notFinite()
		x.fail(quadnine.Unavailable, quadnine.Local, "evaluate", policy.ModelNotFinite, x.scoreErr)
	case x.scoreErr != nil:
		x.failed()
		x.fail(quadnine.Unavailable, quadnine.Local, "evaluate", policy.ModelFailed, x.scoreErr)
	case v.Refused():
		if x.other() {
			return false
		}
		x.fail(quadnine.Unavailable, quadnine.Local, "model", policy.ModelMissing, errNoModel)
	case x.listed && !x.loop.server.budget.take(len(x.scored)):
		x.fail(quadnine.Unavailable, quadnine.Local, "evaluate", policy.Overload, errRowsRoom)
	default:
		if x.listed {
			x.budgeted += len(x.scored)
			x.loop.tel.Count(telemetry.ModelRows, uint64(x.rows))
		}
		x.answer()
	}
	return true
}

// other leases the version that answers in place of the exchange's own, and
// goes back to where the two begin to differ. It reports false when there is
// none.
func (x *Exchange) other() bool {
	old := x.lease.Version
	lease, ok := x.loop.server.models.Other(x.model, old.Number)
	if !ok {
		return false
	}
	x.lease.drop()
	x.lease, x.pinned, x.assigned = lease, false, nil
	x.lease.Trial, x.lease.Shadow = nil, nil // it took two evaluations: no sample
	x.phase = phaseAsk
	if slices.Equal(old.asks(), lease.Version.asks()) {
		x.phase = phaseInputs // they are at hand
	}
	return true
}

// answer makes the computed number the reply, with what its inputs were.
func (x *Exchange) answer() {
	x.isLocal, x.computed, x.status, x.reply = true, true, 200, x.scored
	x.resp.Reset()
	x.resp.Add(":status", "200")
	x.resp.Add("content-type", "application/json")
	x.resp.AddInt("content-length", int64(len(x.scored)))
	x.resp.Add(modelHeader, x.lease.Version.Name)
	if x.step == policy.Previous {
		x.resp.Add("x-quadnine-degraded", string(policy.AppendDegraded(nil, policy.Previous, policy.ReasonOf(x.firstErr), -1)))
	}
	if worst := x.worstInput(); worst != nil {
		x.resp.Add("x-quadnine-degraded", string(policy.AppendDegraded(nil, worst.step, policy.ReasonOf(worst.err), worst.age)))
		if x.step != policy.Previous {
			x.step, x.firstErr = worst.step, worst.err
		}
	}
	x.countAnswer()
}

// worstInput returns the oldest stored input, else one that a peer answered,
// nil when all are the upstream's own.
func (x *Exchange) worstInput() (worst *input) {
	for i := range x.inputs {
		in := &x.inputs[i]
		switch {
		case in.step == policy.Explain:
		case worst == nil, in.step > worst.step, in.step == worst.step && in.age > worst.age:
			worst = in
		}
	}
	return worst
}
