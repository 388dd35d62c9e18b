package loader

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// chain reports version n with the versions from first on below it.
func (r *rig) chain(first, n uint64) {
	r.t.Helper()
	c := r.candidate(versionDir(n))
	for ; first < n; first++ {
		c.Below = append(c.Below, r.candidate(versionDir(first)))
	}
	r.src <- c
}

func versionDir(n uint64) string { return "v" + string(rune('0'+n)) }

// has reports whether the store has a folder of a version.
func (r *rig) has(n uint64) bool {
	_, err := os.Stat(filepath.Join(r.opts.Store, "models", "score", string(rune('0'+n))))
	return err == nil
}

func TestVersionsBelowADropAreBasesOnly(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.pack("v2", 2, 1, nil)
	r.pack("v3", 3, 2, nil)
	r.pack("v4", 4, 3, atOnce)
	r.chain(2, 4)
	for late := time.After(time.Minute); ; {
		var ev Event
		select {
		case ev = <-r.l.Events():
		case <-late:
			t.Fatalf("version 4 is not active; quarantined: %+v", r.l.Quarantined())
		}
		if ev.Version != 4 && ev.Version != 1 {
			t.Errorf("%s of version %d: %s", ev.Kind, ev.Version, ev.Reason)
		}
		if ev.Kind == EventActive && ev.Version == 4 {
			break
		}
	}
	r.serves(4)
	if vs := r.l.Versions("score"); len(vs) != 2 {
		t.Errorf("%d versions are mapped, want 1 and 4: %+v", len(vs), vs)
	}
	r.close()
	r.open()
	r.serves(4)
	// A base is as good as any version when somebody asks for it.
	must(t, r.l.Reactivate(t.Context(), "score", 3))
	r.serves(3)
	if got := r.l.Past("score"); got != 4 {
		t.Errorf("versions up to %d do not come by themselves, want 4", got)
	}
	r.close()
	r.open()
	r.serves(3)
	r.close()
}

func TestABadVersionBelowADrop(t *testing.T) {
	key, err := delta.GenerateKey()
	must(t, err)
	signed := func(p *delta.Pack) { atOnce(p); p.Key = key }
	for name, c := range map[string]struct {
		harm func(r *rig)
		says string
	}{
		"a flipped byte": {func(r *rig) {
			name := filepath.Join(r.drops, "v2", "v2.qd")
			b, err := os.ReadFile(name)
			must(r.t, err)
			b[len(b)-1] ^= 1
			must(r.t, os.WriteFile(name, b, 0o644))
		}, "v2, the base of score@3: v2.qd"},
		"unsigned": {func(r *rig) {
			must(r.t, os.RemoveAll(filepath.Join(r.drops, "v2")))
			r.pack("v2", 2, 1, nil)
		}, ErrSignature.Error()},
		"another version's": {func(r *rig) {
			must(r.t, os.RemoveAll(filepath.Join(r.drops, "v2")))
			r.pack("v2", 4, 1, signed)
		}, "v2: holds score@4, which is not below score@3"},
		"gone": {func(r *rig) { must(r.t, os.RemoveAll(filepath.Join(r.drops, "v2"))) }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Keys = []*delta.PublicKey{key.Public()} })
			r.drop(1, 0, signed)
			r.await(EventActive, 1)
			r.pack("v2", 2, 1, signed)
			r.pack("v3", 3, 2, signed)
			c.harm(r)
			r.chain(2, 3)
			if ev := r.await(EventQuarantined, 3); !strings.Contains(ev.Reason, c.says) {
				t.Errorf("quarantined for %q, want %q", ev.Reason, c.says)
			}
			r.serves(1)
			r.close()
			if r.has(2) || r.has(3) {
				t.Error("what was brought in of them is still in the store")
			}
		})
	}
}

// A base that nothing is made of any more, for the process ended between the two,
// is rubbish: it does not become a version by itself.
func TestABaseWithoutItsVersionIsRubbish(t *testing.T) {
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.pack("v2", 2, 1, nil)
	r.pack("v3", 3, 2, nil)
	r.chain(2, 3)
	r.await(EventCanary, 3)
	r.close()
	if !r.has(2) || !r.has(3) {
		t.Fatal("the chain is not in the store")
	}
	must(t, os.RemoveAll(filepath.Join(r.opts.Store, "models", "score", "3")))
	r.open()
	r.serves(1)
	if r.has(2) {
		t.Error("the base is still in the store")
	}
	if w := r.l.Waiting(); len(w) != 0 {
		t.Errorf("waiting: %+v", w)
	}
	r.close()
}

// What nothing needs gives way to a drop that the quota has no room for.
func TestRetainedVersionsGiveWay(t *testing.T) {
	whole := int64(len(aligned.file(1)))
	r := newRig(t, func(o *Options) { o.Retain, o.Quota = true, 3*whole+whole/2 })
	for n := uint64(1); n <= 3; n++ {
		r.drop(n, 0, atOnce)
		r.await(EventActive, n)
	}
	idle, err := r.l.Idle(t.Context())
	if err != nil || len(idle) != 1 || idle[0].Number != 1 {
		t.Fatalf("idle: %+v, %v", idle, err)
	}
	if err := r.l.Forget(t.Context(), "score", 2, "nowhere"); err == nil {
		t.Error("the standby was forgotten")
	}
	r.drop(4, 0, atOnce)
	r.await(EventQuarantined, 4)
	r.await(EventShed, 1)
	r.await(EventActive, 4)
	r.serves(4)
	if r.has(1) {
		t.Error("version 1 is still in the store")
	}
	r.close()
}

// Going back by hand is not undone by drops that are still there.
func TestGoingBackByHandStays(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Retain = true })
	for n := uint64(1); n <= 4; n++ {
		r.drop(n, 0, atOnce)
		r.await(EventActive, n)
	}
	must(t, r.l.Reactivate(t.Context(), "score", 2))
	r.serves(2)
	r.close()
	raw, err := os.ReadFile(filepath.Join(r.opts.Store, stateFile))
	must(t, err)
	var rec record
	must(t, json.Unmarshal(raw, &rec))
	if got := rec.Models["score"].Floor; got != 4 {
		t.Errorf("floor %d, want 4", got)
	}
	r.open()
	r.serves(2)
	r.report("v3")
	if ev := r.await(EventQuarantined, 3); !strings.Contains(ev.Reason, "somebody went back from 4 by hand") {
		t.Errorf("quarantined for %q", ev.Reason)
	}
	must(t, r.l.Reactivate(t.Context(), "score", 3))
	r.serves(3)
	if err := r.l.Reactivate(t.Context(), "score", 9); !errors.Is(err, ErrNoVersion) {
		t.Errorf("a version that is not there: %v", err)
	}
	must(t, r.l.Rollback(t.Context(), "score", 3, "bad"))
	if err := r.l.Reactivate(t.Context(), "score", 3); !errors.Is(err, ErrNoVersion) && !errors.Is(err, ErrRefused) {
		t.Errorf("a refused version: %v", err)
	}
	r.drop(5, 0, atOnce)
	r.await(EventActive, 5)
	r.close()
}
