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
	EventPatched       Kind = "model.patched"        // a child made a delta out of a patch; Took is the child's, Bytes the patch's, Reason has the figures
	EventProved        Kind = "model.proved"         // the whole version; Bytes what was hashed for it beside the delta: its dirty blocks
	EventWarmed        Kind = "model.warmed"         // in memory, prepared, and its warm-up requests answered as they should; Requests is how many
	EventShadow        Kind = "model.shadow"         // is computed beside the active version, and never served
	EventShadowEnded   Kind = "model.shadow.ended"   // is no longer, see Reason
	EventExperiment    Kind = "model.experiment"     // one began, changed or ended, see Reason
	EventCanary        Kind = "model.canary"         // answers a share of the callers
	EventActive        Kind = "model.active"         // Took is from the drop on, From the version it replaces
	EventRolledBack    Kind = "model.rolled_back"    // From is taken away, Version answers (again, or as it always did)
	EventUnloadSuccess Kind = "model.unload.success" // Took is from entering Unloading on, Bytes what was mapped
	EventUnloadTimeout Kind = "model.unload.timeout" // Leases were revoked
	EventDurable       Kind = "model.durable"        // a power cut will not lose it
	EventQuarantined   Kind = "model.quarantined"    // a drop is not used, see Reason
	EventWaiting       Kind = "model.waiting"        // a drop waits, see Reason
	EventShared        Kind = "model.shared"         // every process that was attached has mapped and checked it; Bytes what each maps
	EventHeld          Kind = "model.held"           // a process still maps it after the reclaim time, see Reason; Bytes what it holds
	EventAttached      Kind = "model.share.attached" // a process shares the model, see Reason
	EventSealed        Kind = "model.share.sealed"   // a file of the store was copied into memory for processes that could write it; Copied what that takes
	EventLeft          Kind = "model.share.left"     // it has closed its connection
	EventDetached      Kind = "model.share.detached" // it was cut off, see Reason
	EventStore         Kind = "model.store"          // the store could not be written; it is tried again
	EventTiered        Kind = "model.tiered"         // a version that nothing needs was removed from the store; Reason says where it is kept
	EventCompacted     Kind = "model.compacted"      // its chain was written anew, Bytes long; Reason says why and as what
	EventShed          Kind = "model.shed"           // a version that nothing needs was removed to make room for a drop, before its age to be tiered
	EventMemory        Kind = "model.memory"         // at start: what the stored versions take of the control group's memory; Bytes of files
	EventShort         Kind = "model.memory.short"   // the files of all versions do not fit the control group's memory, see Reason
	EventUnlocked      Kind = "model.unlocked"       // a stored version answers without being locked into memory, see Reason
	EventBlockedActive Kind = "model.blocked.active" // a blocked version goes on answering, as nothing else is there, see Reason
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
	Copied  int64 // private memory that was added, bytes
	Copies  int64 // the extents, or runs of rows, that were copied for it
	Leases  int64 // that were revoked

	Requests int64 // of the warm-up
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
		ev.Took = max(ev.Time.Sub(ev.Began), 0) // what a run before this one noted knows the wall clock only, which jumps
	}
	select {
	case e.c <- ev:
	default:
		e.lost.Add(1)
	}
}
