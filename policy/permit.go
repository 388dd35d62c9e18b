package policy

import "github.com/quadnine/quadnine"

// Permit is what Decide found out about a request, to be given back to Record
// exactly once when the request's outcome is known. Giving it back twice, or
// never, harms nothing: a probe's lease ends by itself. It is a value; copies
// are the same permit. The zero Permit records nothing.
//
// It refers to the key's strings until then.
type Permit struct {
	e      *entry // whose breaker decided; nil when the key has none yet
	tenant *entry // the tenant's, where e is nil and there was one
	key    quadnine.Key
	hash   uint64
	thash  uint64
	lease  uint64 // not 0: a probe's
	epoch  uint32 // of e, else of tenant
	slot   uint8
	event  Event
}

// Event returns HalfOpened when the Decide that made p moved a breaker from
// open to half-open, else None. It is set on one permit per transition,
// whatever the Decision was.
func (p Permit) Event() Event { return p.event }

// IsProbe reports whether p holds a probe's lease.
func (p Permit) IsProbe() bool { return p.lease != 0 }

// Key returns the key that was asked for.
func (p Permit) Key() quadnine.Key { return p.key }

// Level returns whose breaker decided: LevelTenant when the key had no room for
// one of its own.
func (p Permit) Level() Level {
	if p.e != nil {
		return p.e.level
	}
	return LevelKey
}
