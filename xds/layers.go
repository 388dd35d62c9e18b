package xds

import (
	"errors"
	"maps"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Layer is one layer of layered_runtime. One of Values, RTDS and Admin says where
// its values come from.
type Layer struct {
	Name   string
	Values map[string]string // static_layer
	RTDS   string            // rtds_layer.name: the resource that a server is asked for
	Fetch  time.Duration     // rtds_config.initial_fetch_timeout; 0: for ever
	Admin  bool              // admin_layer: SetRuntime
}

// ErrNoAdminLayer is returned by SetRuntime when layered_runtime has no
// admin_layer.
var ErrNoAdminLayer = errors.New("layered_runtime has no admin_layer to change")

// layers are the layers of the runtime and what they hold now.
type layers struct {
	from   []Layer
	values []map[string]string
	merged *snapshot.Runtime // nil: nothing is overridden
}

func newLayers(from []Layer) layers {
	l := layers{from: from, values: make([]map[string]string, len(from))}
	for i, f := range from {
		l.values[i] = f.Values
	}
	l.merge()
	return l
}

// receive takes what a server says of a layer.
func (l *layers) receive(in snapshot.RuntimeLayer) {
	changed := false
	for i, f := range l.from {
		if f.RTDS != "" && f.RTDS == in.Name && !maps.Equal(l.values[i], in.Values) {
			l.values[i], changed = in.Values, true
		}
	}
	if changed {
		l.merge()
	}
}

func (l *layers) merge() {
	if len(l.from) == 0 {
		return
	}
	all := make([]snapshot.RuntimeLayer, len(l.from))
	for i, f := range l.from {
		all[i] = snapshot.RuntimeLayer{Name: f.Name, Values: l.values[i]}
	}
	l.merged = snapshot.NewRuntime(all)
}

// SetRuntime changes keys of the admin layer; an empty value takes a key out of
// it. It is what POST /runtime_modify does. It lasts until the process ends.
func (a *Applier) SetRuntime(changes map[string]string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	// The last admin layer wins over those before it.
	for i := len(a.layers.from) - 1; i >= 0; i-- {
		if !a.layers.from[i].Admin {
			continue
		}
		next := maps.Clone(a.layers.values[i])
		if next == nil {
			next = make(map[string]string)
		}
		maps.Copy(next, changes)
		maps.DeleteFunc(next, func(_, v string) bool { return v == "" })
		a.layers.values[i] = next
		a.layers.merge()
		a.settle(now())
		return a.applyErr
	}
	return ErrNoAdminLayer
}

// Runtime returns the values in use and their layers, or nil when nothing is
// overridden.
func (a *Applier) Runtime() *snapshot.Runtime {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.layers.merged
}
