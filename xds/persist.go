package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quadnine/quadnine/snapshot"
)

const (
	stateFile  = "last-good.xds"
	stateMagic = "quadnine last good configuration 1\n"
	// writeAfter is how long the configuration must have been quiet before it is
	// written, and writeEvery how often it is written while it is not.
	writeAfter = time.Second
	writeEvery = 5 * time.Second
	// unsettledFor bounds how long writing waits for a change to be complete: one
	// in the middle of which the process dies should not be what it begins with.
	unsettledFor = retainFor
)

// keeper writes the last good configuration to a file. Its fields are guarded by
// Applier.mu, except that the file is written without it.
type keeper struct {
	dir     string
	saved   time.Time                          // when what was restored had been written; zero: nothing was
	names   map[string]map[string][]netip.Addr // while Start restores
	trouble string

	confirmed bool // servers have spoken of all that was restored

	since   time.Time // of the oldest change that is not written; zero: none
	writing bool
	busy    sync.WaitGroup // of writing
	last    time.Time
	timer   *time.Timer
}

// state is the head of the file, one line of JSON. After it comes a
// DeltaDiscoveryResponse for each kind, with its length before it, and last the
// SHA-256 of all before it.
type state struct {
	Saved  time.Time                          `json:"saved"`
	Server string                             `json:"server"`
	Names  map[string]map[string][]netip.Addr `json:"names,omitempty"` // what DNS said, by cluster
	Sizes  []int                              `json:"sizes"`
}

// dirty notes that what is accepted has changed.
func (a *Applier) dirty(now time.Time) {
	k := a.keep
	if k == nil || a.closed {
		return
	}
	if !k.since.IsZero() {
		return
	}
	k.since = now
	wait := max(writeAfter, k.last.Add(writeEvery).Sub(now))
	if k.timer == nil {
		k.timer = time.AfterFunc(wait, a.persist)
	} else {
		k.timer.Reset(wait)
	}
}

// persist writes what is accepted, or tries again soon.
func (a *Applier) persist() {
	a.mu.Lock()
	k, now := a.keep, now()
	if a.closed || k.since.IsZero() {
		a.mu.Unlock()
		return
	}
	if k.writing || a.unsettled() && now.Sub(k.since) < unsettledFor {
		k.timer.Reset(writeAfter)
		a.mu.Unlock()
		return
	}
	k.writing = true
	k.busy.Add(1)
	defer k.busy.Done()
	k.since, k.last = time.Time{}, now
	head, parts := a.record(now)
	a.mu.Unlock()

	err := writeState(k.dir, head, parts)

	a.mu.Lock()
	defer a.mu.Unlock()
	k.writing = false
	a.wrote(err, now)
}

// flush writes what is not written yet, unless it is the half of a change. The
// Applier is closed.
func (a *Applier) flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.keep
	if k.timer != nil {
		k.timer.Stop()
	}
	if now := now(); k.since.IsZero() || a.unsettled() && now.Sub(k.since) < unsettledFor {
		return nil
	}
	head, parts := a.record(now())
	return writeState(k.dir, head, parts)
}

func (a *Applier) wrote(err error, now time.Time) {
	k := a.keep
	if err == nil {
		k.trouble = ""
		return
	}
	if k.trouble != err.Error() {
		a.log.Error("the last good configuration could not be stored", "err", err, "hint", "until it can be, a restart without a management server begins with an older one")
	}
	k.trouble = err.Error()
	if a.closed {
		k.since = now // for flush
	}
	a.dirty(now)
}

// unsettled reports whether a change is half done.
func (a *Applier) unsettled() bool {
	for _, t := range a.tables {
		if t.next != t.cur {
			return true
		}
	}
	for _, l := range a.listeners {
		if l.next != l.cur {
			return true
		}
	}
	var needed map[string]bool
	for name, c := range a.parted {
		if c.next != nil {
			return true
		}
		if needed == nil {
			needed = a.needed()
		}
		if needed[name] {
			return true
		}
	}
	return false
}

// record returns what is to be written.
func (a *Applier) record(now time.Time) (state, []*discoveryv3.DeltaDiscoveryResponse) {
	head := state{Saved: now, Server: a.link.server, Names: a.found()}
	parts := make([]*discoveryv3.DeltaDiscoveryResponse, 0, kinds)
	for _, kind := range Kinds() {
		if kind == KindSecret {
			continue // keys are not written down
		}
		p := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind.TypeURL(), SystemVersionInfo: a.kinds[kind].version}
		for _, name := range sortedKeys(a.kinds[kind].byName) {
			if r := a.kinds[kind].byName[name]; r.accepted() && !a.holdsKey(r) {
				p.Resources = append(p.Resources, &discoveryv3.Resource{
					Name: name, Version: r.version, Resource: &anypb.Any{TypeUrl: kind.TypeURL(), Value: r.wire},
				})
			}
		}
		parts = append(parts, p)
	}
	return head, parts
}

// holdsKey reports whether a private key stands in r, or what opens a stream of
// secrets. It is not written down, and comes from a server again.
func (a *Applier) holdsKey(r *resource) bool {
	with := func(t *snapshot.TLS) bool {
		for ref := range t.Secrets {
			if streamSecret(ref.Source.Stream) {
				return true
			}
		}
		return t != nil && slices.ContainsFunc(t.Certificates, func(c snapshot.Certificate) bool { return len(c.Key.Bytes) > 0 })
	}
	switch r.kind {
	case KindListener:
		if l := a.listeners[r.name]; l != nil && l.next != nil && !r.shadowed {
			for face := range l.next.Faces {
				if with(face.TLS) {
					return true
				}
			}
			return false
		}
	case KindCluster:
		if c := a.clusters[r.name]; c != nil && c.next != nil && !r.shadowed {
			return with(c.next.TLS)
		}
	case KindEndpoints, KindRoutes, KindRuntime:
		return false
	case KindSecret, kinds:
	}
	return true // nobody knows what it holds
}

// writeState replaces the file in dir. What is there is whole at any time.
func writeState(dir string, head state, parts []*discoveryv3.DeltaDiscoveryResponse) (err error) {
	var body []byte
	for _, p := range parts {
		before := len(body)
		if body, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(body, p); err != nil {
			return err
		}
		head.Sizes = append(head.Sizes, len(body)-before)
	}
	line, err := json.Marshal(head)
	if err != nil {
		return err
	}
	out := bytes.Join([][]byte{[]byte(stateMagic), line, []byte("\n"), body}, nil)
	sum := sha256.Sum256(out)
	out = append(out, sum[:]...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(out)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, stateFile)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what processes left that ended while they wrote. What it cannot
// remove does no harm.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, stateFile+".[0-9]*"))
	for _, path := range left {
		_ = os.Remove(path)
	}
}

var errDamaged = errors.New("is damaged")

// readState returns what writeState wrote.
func readState(path string) (head state, parts []*discoveryv3.DeltaDiscoveryResponse, err error) {
	in, err := os.ReadFile(path)
	if err != nil {
		return head, nil, err
	}
	damaged := func(what string) error { return fmt.Errorf("%s %w: %s", path, errDamaged, what) }
	rest, ok := bytes.CutPrefix(in, []byte(stateMagic))
	if !ok || len(rest) < sha256.Size {
		return head, nil, damaged("it does not begin as it should")
	}
	end := len(in) - sha256.Size
	if sum := sha256.Sum256(in[:end]); !bytes.Equal(sum[:], in[end:]) {
		return head, nil, damaged("its checksum does not hold")
	}
	line, body, _ := bytes.Cut(rest[:len(rest)-sha256.Size], []byte("\n"))
	if err := json.Unmarshal(line, &head); err != nil {
		return head, nil, damaged(err.Error())
	}
	for _, n := range head.Sizes {
		if n < 0 || n > len(body) {
			return head, nil, damaged("a part is longer than the file")
		}
		p := new(discoveryv3.DeltaDiscoveryResponse)
		if err := proto.Unmarshal(body[:n], p); err != nil {
			return head, nil, damaged(err.Error())
		}
		parts, body = append(parts, p), body[n:]
	}
	return head, parts, nil
}

// restore takes the last good configuration from disk. What is wrong with it is
// logged: the sidecar starts without it, as if it were new.
func (a *Applier) restore(now time.Time) {
	k := a.keep
	if k == nil {
		return
	}
	path := filepath.Join(k.dir, stateFile)
	sweep(k.dir)
	head, parts, err := readState(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, errDamaged):
		aside := path + ".damaged"
		if moved := os.Rename(path, aside); moved != nil {
			aside = "where it was: " + moved.Error()
		}
		k.trouble = fmt.Sprintf("%v; moved to %s", err, aside)
	case err != nil:
		k.trouble = err.Error()
	}
	if err != nil {
		a.log.Error("the last good configuration is not used", "err", err, "hint", "the management server's is awaited")
		return
	}
	k.saved, k.names, a.restoring = head.Saved, head.Names, true
	for _, p := range parts {
		kind, ok := KindOf(p.GetTypeUrl())
		if !ok || kind == KindSecret || !a.kinds[kind].dynamic {
			continue // what nobody could confirm or replace is not served
		}
		s := &a.kinds[kind]
		s.version, s.stale = p.GetSystemVersionInfo(), true
		for _, in := range p.GetResources() {
			a.restoreOne(kind, in, head.Saved, now)
		}
	}
	a.log.Warn("stale config: serving what is on disk until a management server answers", "saved", head.Saved, "age", age(now.Sub(head.Saved)))
}

func (a *Applier) restoreOne(kind Kind, in *discoveryv3.Resource, saved, now time.Time) {
	r := a.resource(kind, in.GetName(), now)
	r.received, r.version, r.restored = in.GetVersion(), in.GetVersion(), true
	if why := a.accept(r, in.GetResource().GetValue(), now, false); why != nil {
		delete(a.kinds[kind].byName, r.name)
		a.log.Warn("a stored resource is not used", "type", kind.String(), "resource", r.name, "err", why[0].text(),
			"hint", "this version of quadnine does not take what another one took")
		return
	}
	r.wire, r.updated = in.GetResource().GetValue(), saved
	a.touched = append(a.touched, r)
}

// remembered returns what DNS said of host before the process started, or nil.
func (a *Applier) remembered(cluster, host string) []netip.Addr {
	if a.keep == nil {
		return nil
	}
	return a.keep.names[cluster][host]
}
