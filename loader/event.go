package loader

import (
	"sync/atomic"
	"time"
)

// Kind is what happened.
type Kind string

// The kinds, named as in telemetry.
const (
	EventLoaded        Kind = "model.loaded"         // verified and mapped; Took is from the drop on, Bytes what was read
	EventProved        Kind = "model.proved"         // the whole version, and in memory; Bytes what was hashed for it
	EventCanary        Kind = "model.canary"         // answers a share of the callers
	EventActive        Kind = "model.active"         // Took is from the drop on, From the version it replaces
	EventRolledBack    Kind = "model.rolled_back"    // From is taken away, Version answers (again, or as it always did)
	EventUnloadSuccess Kind = "model.unload.success" // Took is from entering Unloading on, Bytes what was mapped
	EventUnloadTimeout Kind = "model.unload.timeout" // Leases were revoked
	EventDurable       Kind = "model.durable"        // a power cut will not lose it
	EventQuarantined   Kind = "model.quarantined"    // a drop is not used, see Reason
	EventWaiting       Kind = "model.waiting"        // a drop waits, see Reason
	EventStore         Kind = "model.store"          // the store could not be written; it is tried again
	EventLost          Kind = "model.lost"           // a stored version could not be brought back at start
)

// Event is one thing that happened to a model.
type Event struct {
	Kind    Kind
	Time    time.Time
	Model   string
	Version uint64
	From    uint64
	Drop    string
	Reason  string
	Began   time.Time // when the drop was seen, or the state entered
	Took    time.Duration
	Bytes   int64
	Copied  int64 // private memory that was added
	Leases  int64 // that were revoked
}

const eventRoom = 1024

// events hands events over without ever waiting for who reads them.
type events struct {
	c    chan Event
	lost atomic.Int64
}

func newEvents() events { return events{c: make(chan Event, eventRoom)} }

func (e *events) emit(ev Event) {
	ev.Time = now()
	if !ev.Began.IsZero() {
		ev.Took = ev.Time.Sub(ev.Began)
	}
	select {
	case e.c <- ev:
	default:
		e.lost.Add(1)
	}
}
