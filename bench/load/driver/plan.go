package driver

import (
	"errors"
	"fmt"
	"time"
)

// Plan says what a run does. It travels as JSON.
type Plan struct {
	Addr        string        // host:port, HTTP/2 with prior knowledge
	Path        string        // of every request
	Connections int           // opened before anything is sent
	Streams     int           // open at once on each connection, at most
	Rate        float64       // requests a second, open loop; 0: closed loop
	Warm        time.Duration // before the part that counts
	Duration    time.Duration // of the part that counts

	Unique  bool // each request has a traceparent of its own
	Tenants int  // ?tenant=t-000…&metric=m-000… on the path, in turn; 0: no query
	Metrics int
	Body    int // bytes that every reply must have

	// Message makes each stream a long one that sends messages of so many bytes,
	// each in a DATA frame of its own, and gets them back; the counts are of
	// messages then. 0: requests.
	Message     int
	Outstanding int // messages on their way on each stream

	// Hold keeps the connections open behind the part that counts, until the
	// process is ended.
	Hold bool
}

// ErrPlan says that a plan cannot be run.
var ErrPlan = errors.New("plan")

// check reports what a plan lacks.
func (p Plan) check() error {
	switch {
	case p.Addr == "" || p.Path == "":
		return fmt.Errorf("driver: %w: want an address and a path", ErrPlan)
	case p.Connections < 1 || p.Streams < 1:
		return fmt.Errorf("driver: %w: %d connections with %d streams: want one of each at least", ErrPlan, p.Connections, p.Streams)
	case p.Duration <= 0:
		return fmt.Errorf("driver: %w: a duration of %v", ErrPlan, p.Duration)
	case p.Message > 0 && (p.Outstanding < 1 || p.Rate > 0):
		return fmt.Errorf("driver: %w: streams need outstanding messages and know no rate", ErrPlan)
	}
	return nil
}

// Result is what the counted part of a run came to.
type Result struct {
	Done       int           `json:"done"`       // complete and right: requests, or messages there and back
	Failed     int           `json:"failed"`     // anything else
	Failure    string        `json:"failure"`    // the first of them
	Bytes      int64         `json:"bytes"`      // of bodies received
	Took       time.Duration `json:"took"`       // from the first request to the last reply
	PerSecond  float64       `json:"per_second"` // Done over Took
	Overloaded bool          `json:"overloaded"` // open loop: given up, requests were half a second late
	Latency    Latency       `json:"latency"`    // from when a request was due to its last byte
	LateP50    time.Duration `json:"late_p50"`   // open loop: from when a request was due to when it was sent
	ClientCPU  time.Duration `json:"client_cpu"` // of this process, in the counted part
}
