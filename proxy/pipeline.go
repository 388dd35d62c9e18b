package proxy

import (
	"fmt"
	"runtime/debug"

	"github.com/quadnine/quadnine"
)

// Verdict is what a stage says of an exchange.
type Verdict uint8

// The verdicts.
const (
	// Continue hands the exchange to the next stage.
	Continue Verdict = iota
	// Wait parks the exchange. Whoever it waits for resumes it on its own shard,
	// and then the same stage is asked again.
	Wait
	// Reply ends the way to the upstream: the exchange has its reply, or an
	// error that rescue turns into one.
	Reply
)

// stage is one step of a request's way. A stage keeps no state of an exchange:
// all of it stands in the Exchange, each stage filling only its own fields.
type stage interface {
	Step(x *Exchange) Verdict
}

// The places in the list that the pipeline itself jumps to.
const (
	atRoute   = 1
	atCompute = 5
	atForward = 6
	atRespond = 7
)

// stages is the life of a request. The order is the architecture.
func stages(l *loop) []stage {
	return []stage{decode{l}, route{l}, filters{l}, version{l}, guard{l}, compute{l}, forward{l}, respond{l}}
}

// run takes x as far as it goes now. It is called when x begins and by whatever
// x waited for; a call from within a stage is noted and taken up after it.
func (x *Exchange) run() {
	if x.running {
		x.again = true
		return
	}
	if x.finished {
		return
	}
	l := x.loop
	defer x.contain()
	x.running = true
	for x.at < len(l.stages) {
		x.again = false
		switch l.stages[x.at].Step(x) {
		case Continue:
			x.at++
		case Reply:
			if x.err != nil {
				x.at = x.rescue()
			} else {
				x.at = atRespond
			}
		case Wait:
			if !x.again && !x.gone {
				x.running = false
				return
			}
		}
		if x.gone {
			break
		}
	}
	x.running = false
	x.finish()
}

// contain ends an exchange whose code panicked, and only that one.
func (x *Exchange) contain() {
	if p := recover(); p != nil {
		x.crash(p)
	}
}

// crash ends the exchange for a panic, with an error reply if that can still be
// sent.
func (x *Exchange) crash(p any) {
	l := x.loop
	l.server.log.Error("panic in an exchange: it ends, others go on",
		"panic", fmt.Sprint(p), "key", x.Key.String(), "stage", x.at, "stack", string(debug.Stack()))
	x.running = false
	if x.finished {
		return
	}
	x.err = &quadnine.Error{Code: quadnine.Internal, Origin: quadnine.Local, Op: "panic", Key: x.Key}
	defer func() {
		if recover() != nil && !x.finished { // even the error reply panicked
			x.finish()
		}
	}()
	if !x.headSent {
		x.dropUpstream()
		x.explain(x.err)
		x.at = atRespond
		l.stages[len(l.stages)-1].Step(x)
	}
	x.finish()
}
