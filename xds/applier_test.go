package xds

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// inBubble runs f with a rig in fake time.
func inBubble(t *testing.T, options func(*ApplierOptions), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options)
		defer func() { must(t, r.Close()) }()
		f(r)
	})
}

// events plays events as in TestApply's scripts.
func (r *rig) events(line string) {
	r.Helper()
	for e := range strings.SplitSeq(line, " · ") {
		r.do(strings.Fields(e))
		synctest.Wait()
	}
}

func (r *rig) find(kind Kind, name string) ResourceStatus {
	r.Helper()
	for _, s := range r.Status().Resources {
		if s.API == kind.String() && s.Name == name {
			return s
		}
	}
	r.Fatalf("no %s %s in %+v", kind, name, r.Status().Resources)
	return ResourceStatus{}
}

// TestSameBytesAreJudgedOnce: a server that repeats itself costs nothing.
func TestSameBytesAreJudgedOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("cds 1 a=static:10.0.0.1:80 b=bad:no")
		if r.compiled.compiled != 2 {
			t.Fatalf("%d resources compiled, want 2", r.compiled.compiled)
		}
		for range 5 {
			r.events("cds 2 a=static:10.0.0.1:80 b=bad:no")
		}
		if r.compiled.compiled != 2 || len(r.rejected) != 6 {
			t.Errorf("%d resources compiled, want 2; %d rejections told, want 6", r.compiled.compiled, len(r.rejected))
		}
		if s := r.find(KindCluster, "a"); s.Accepted != "2" || s.InUse != "2" {
			t.Errorf("a is %+v, want version 2 in use", s)
		}
		if s := r.find(KindCluster, "b"); s.State != Refused || s.Received != "2" || s.Accepted != "" || s.Error != "field: no (mend it)" {
			t.Errorf("b is %+v", s)
		}
		r.events("cds 3 a=static:10.0.0.1:80 b=static:10.0.0.2:80 · cds 4 a=static:10.0.0.1:80 b=bad:no")
		if s := r.find(KindCluster, "b"); s.State != Refused || s.Received != "4" || s.Accepted != "3" || s.InUse != "3" {
			t.Errorf("b is %+v, want 4 rejected and 3 in use", s)
		}
	})
}

func TestNamesMustAgree(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		why := r.Update(Update{Kind: KindCluster, Variant: VariantDelta, Resources: []Resource{{Name: "a", Body: []byte("b=eds")}}})
		if len(why) != 1 || why[0].Name != "a" || why[0].Path != "name" || !strings.Contains(why[0].Reason, `"b"`) {
			t.Errorf("got %+v", why)
		}
		if len(r.plane.now().Clusters) != 0 {
			t.Error("it is in use all the same")
		}
	})
}

func TestRefuseEmpty(t *testing.T) {
	inBubble(t, func(o *ApplierOptions) { o.RefuseEmpty = true }, func(r *rig) {
		r.events("cds 1 a=static:10.0.0.1:80")
		if why := r.Update(Update{Kind: KindCluster, Variant: VariantSotw}); len(why) != 1 || why[0].Name != "" {
			t.Errorf("got %+v, want a refusal of the whole response", why)
		}
		r.events("advance 2m")
		if r.plane.now().Clusters["a"] == nil {
			t.Error("the cluster is gone")
		}
		r.events("+cds 2 -a · advance 1s")
		if r.plane.now().Clusters["a"] != nil {
			t.Error("a delta response did not remove the cluster")
		}
	})
}

// TestBootstrapWins: what the bootstrap says cannot be changed by a server.
func TestBootstrapWins(t *testing.T) {
	static := func(o *ApplierOptions) {
		o.Static = []StaticResource{
			{Kind: KindCluster, Name: "own", Body: []byte("own=static:10.0.0.1:80")},
			{Kind: KindCluster, Name: "management", Body: []byte("nobody reads this"), Aside: true},
			{Kind: KindListener, Name: "l", Body: []byte("l=:80/own")},
		}
	}
	inBubble(t, static, func(r *rig) {
		const want = "l:80→own own(10.0.0.1:80)"
		if got := r.plane.served(); got != want {
			t.Errorf("at the start %s, want %s", got, want)
		}
		r.events("cds 1 own=static:10.6.6.6:80 · lds 1 l=:81/x")
		if got := r.plane.served(); got != want || r.rejected != nil {
			t.Errorf("then %s, rejected %v; want it accepted and without effect", got, r.rejected)
		}
		if s := r.Accepted(KindCluster); len(s) != 3 || s[0].Name != "management" || s[2].State != Accepted || s[2].InUse != "" || s[2].Error == "" {
			t.Errorf("accepted clusters are %+v", s)
		}
		r.events("cds 2 · lds 2 · advance 2m")
		if got := r.plane.served(); got != want {
			t.Errorf("in the end %s, want %s", got, want)
		}
	})
}

func TestBadBootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		a := NewApplier(ApplierOptions{Plane: p, Compiler: new(words), Static: []StaticResource{
			{Kind: KindCluster, Name: "a", Body: []byte("a=bad:no")}, {Kind: KindListener, Name: "l", Body: []byte("l=bad:neither")},
		}})
		err := a.Start()
		if err == nil || !strings.Contains(err.Error(), `Cluster "a": field: no`) || !strings.Contains(err.Error(), `Listener "l": field: neither`) {
			t.Errorf("error %v", err)
		}
		if p.count() != 0 {
			t.Error("something is served")
		}
		must(t, a.Close())
	})
}

// TestApplyIsTriedAgain: what the data plane refuses for now is not lost.
func TestApplyIsTriedAgain(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.plane.set(func(p *plane) { p.refuse = errors.New("no memory") })
		r.events("cds 1 a=static:10.0.0.1:80")
		if s := r.Status(); s.Unapplied != "no memory" {
			t.Errorf("status says %q", s.Unapplied)
		}
		r.plane.set(func(p *plane) { p.refuse = nil })
		r.events("advance 1s")
		if s := r.Status(); s.Unapplied != "" || r.plane.now().Clusters["a"] == nil {
			t.Errorf("a second later %s, status says %q", r.plane.served(), s.Unapplied)
		}
	})
}

// TestWantedFollows: subscriptions end when what they were for is let go, and the
// client is told when that is not within an update.
func TestWantedFollows(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("cds 1 a=eds b=eds:bees · lds 1 l=:80/rds:r")
		want := func(k Kind, names ...string) {
			t.Helper()
			if got := r.Wanted(k); !slices.Equal(got, names) {
				t.Errorf("%s wants %v, want %v", k, got, names)
			}
		}
		want(KindEndpoints, "a", "bees")
		want(KindRoutes, "r")
		want(KindRuntime, "rt")
		if r.Wanted(KindCluster) != nil || r.Wanted(KindListener) != nil {
			t.Error("kinds that are asked for as a whole have names")
		}
		r.events("+eds 1 a=10.0.0.1:80 bees=10.0.0.2:80 · +rds 1 r=a")
		if v := r.Versions(KindEndpoints, nil); len(v) != 2 || v["a"] != "1" {
			t.Errorf("versions %v", v)
		}
		before := r.resubs.Load()
		r.events("+cds 2 -a -b")
		want(KindEndpoints, "a", "bees")
		r.events("advance 1s")
		want(KindEndpoints, "a") // b was not in use
		r.events("advance 59s")
		want(KindEndpoints)
		if got := r.resubs.Load(); got != before+2 {
			t.Errorf("the client was told %d times, want 2", got-before)
		}
		if len(r.Versions(KindEndpoints, nil)) != 0 {
			t.Errorf("versions %v of what is gone", r.Versions(KindEndpoints, nil))
		}
		// Routes stay subscribed while the listener that had them is still served.
		r.events("lds 2 l=:80/rds:s")
		want(KindRoutes, "r", "s")
		r.events("rds 2 s=z · advance 15s")
		want(KindRoutes, "s")
		r.events("lds 3")
		slices.Sort(r.compiled.forgotten)
		gone := slices.DeleteFunc(r.compiled.forgotten, func(s string) bool { return strings.Contains(s, "\x00") })
		if want := []string{"CDS a", "CDS b", "EDS a", "EDS bees", "LDS l", "RDS r", "RDS s"}; !slices.Equal(gone, want) {
			t.Errorf("the compiler was told to forget %q, want %q", gone, want)
		}
	})
}

// TestWhoWaitsHowLong: a resource may take as long as the most patient allows.
func TestWhoWaitsHowLong(t *testing.T) {
	layers := func(o *ApplierOptions) { o.Layers = []Layer{{Name: "l", RTDS: "rt", Fetch: 3 * time.Second}} }
	inBubble(t, layers, func(r *rig) {
		r.events("cds 1 a=eds:s@1s b=eds:s@2s c=eds:s@1s d=eds@0s e=eds:d@9s f=static:10.0.0.1:80 · lds 1 l=:80/rds:r@4s m=:81/f")
		for kind, want := range map[Kind]map[string]time.Duration{
			KindEndpoints: {"s": 2 * time.Second, "d": 0}, KindRoutes: {"r": 4 * time.Second}, KindRuntime: {"rt": 3 * time.Second}, KindCluster: {},
		} {
			got := r.FetchTimeouts(kind, r.Wanted(kind))
			maps.DeleteFunc(got, func(name string, _ time.Duration) bool { return strings.Contains(name, "\x00") })
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", kind, got, want)
			}
		}
	})
}

// TestTakeoverIsShown: who waits for an address, and who keeps it so long.
func TestTakeoverIsShown(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("cds 1 a=static:10.0.0.1:80 · lds 1 l=:80/a · lds 2 m=:80/rds:r")
		if s := r.find(KindListener, "l"); s.State != Retained || s.InUse != "1" || !strings.Contains(s.Error, `keeps :80 until listener "m" is ready`) {
			t.Errorf("l is %+v", s)
		}
		r.events("rds 1 r=a · lds 3 m=:81/rds:never n=:80/a")
		if s := r.find(KindListener, "n"); s.State != Warming || !slices.Equal(s.WaitsFor, []string{"LDS m"}) {
			t.Errorf("n is %+v", s)
		}
		if s := r.find(KindListener, "m"); !slices.Equal(s.WaitsFor, []string{"RDS never"}) {
			t.Errorf("m is %+v", s)
		}
	})
}

// TestServerErrors: what a server says about a resource is shown, and what there
// is of it stays.
func TestServerErrors(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("cds 1 a=eds b=eds · +eds 1 a=10.0.0.1:80 · lds 1 l=:80/a,b")
		r.Update(Update{Kind: KindEndpoints, Variant: VariantDelta, Errors: []ResourceError{
			{Name: "a", Code: codes.PermissionDenied, Message: "not yours"},
			{Name: "b", Code: codes.NotFound, Message: "what b?"},
			{Name: "c", Code: codes.NotFound, Message: "nobody asked"},
		}})
		if s := r.find(KindEndpoints, "a"); s.State != Active || !strings.Contains(s.Error, "PermissionDenied: not yours") {
			t.Errorf("a is %+v", s)
		}
		if s := r.find(KindEndpoints, "b"); s.State != Absent || !strings.Contains(s.Error, "NotFound: what b?") {
			t.Errorf("b is %+v", s)
		}
		if got, want := r.plane.served(), "l:80→a,b a(10.0.0.1:80) b(cold)"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestWhatIsNotSentIsNotGone: a server that has trouble with a resource, or sends it
// broken, takes nothing away.
func TestWhatIsNotSentIsNotGone(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("cds 1 a=static:10.0.0.1:80 b=static:10.0.0.2:80")
		r.Update(Update{
			Kind: KindCluster, Variant: VariantSotw, Version: "2", Resources: []Resource{{Name: "a", Version: "2", Body: []byte("a=static:10.0.0.1:80")}},
			Errors: []ResourceError{{Name: "b", Code: codes.Unavailable, Message: "later"}},
		})
		r.events("advance 2m")
		if got, want := r.plane.served(), "a(10.0.0.1:80) b(10.0.0.2:80)"; got != want {
			t.Errorf("after an error about b: %s, want %s", got, want)
		}
		if s := r.find(KindCluster, "b"); s.State != Active || !strings.Contains(s.Error, "Unavailable: later") {
			t.Errorf("b is %+v", s)
		}
		r.events("restart · lds 3 · cds 3 a=bad:no b=static:10.0.0.3:80 · advance 2m")
		if got, want := r.plane.served(), "a(10.0.0.1:80) b(10.0.0.3:80)"; got != want {
			t.Errorf("after a restart and a broken a: %s, want %s", got, want)
		}
		if r.Ready().Stale {
			t.Error("the configuration is stale, though the server has spoken of it all")
		}
	})
}

// TestOldNamesAreForgotten: addresses from before a restart are for what was
// restored.
func TestOldNamesAreForgotten(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.events("dns app 10.0.0.8 · cds 1 d=dns:app:80 · lds 1 l=:80/d · advance 2s · dns app fail · restart")
		if got, want := r.plane.served(), "l:80→d d(10.0.0.8:80)"; got != want {
			t.Errorf("after a restart %s, want %s", got, want)
		}
		r.events("cds 2 · advance 1h · cds 3 d=dns:app:80")
		if got, want := r.plane.served(), "l:80→d d(cold)"; got != want {
			t.Errorf("an hour later %s, want %s", got, want)
		}
	})
}

func TestReady(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		ready := func(want string) {
			t.Helper()
			if got := r.Ready(); got.Live != (want == "") || got.Why != want || got.Stale {
				t.Errorf("ready: %+v, want %q", got, want)
			}
		}
		ready("waits for CDS of the management server")
		r.events("missing cds")
		ready("waits for LDS of the management server")
		r.events("lds 1 l=:80/rds:r")
		ready("listener l waits for its routes or their clusters")
		r.events("advance 300ms · rds 1 r=z · advance 1s") // stored when that is settled, at 2 s
		ready("")
		r.events("lds 2 l=:80/rds:r m=:81/rds:q")
		r.mu.Lock() // as while something large is compiled
		if got := r.Ready(); !got.Live || got.Why != "listener m waits for its routes or their clusters" {
			t.Errorf("ready: %+v, want live, for l is served", got)
		}
		r.mu.Unlock()
		r.events("lds 3 l=:80/rds:r")
		ready("")
		r.events("advance 10s · restart")
		if got := r.Ready(); !got.Live || !got.Stale || got.Age != 9300*time.Millisecond {
			t.Errorf("ready: %+v, want stale for 9.3 s and live", got)
		}
	})
}

// TestStatusReads: what a person sees of a swap in the middle.
func TestStatusReads(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.Connected("xds.example:18000", true, nil)
		r.events("+cds 1 a=eds · +eds 1 a=10.0.0.1:80 · +lds 1 l=:80/rds:r · +rds 1 r=a · +rtds 1 rt=k:1 · advance 10s")
		r.events("+cds 2 b=eds -a · +rds 2 r=b · advance 4s · +lds 3 l=bad:no")
		r.Connected("xds.example:18000", false, errors.New("reset"))
		r.events("advance 90s")
		_ = r.Status() // reading changes nothing
		b, err := json.MarshalIndent(r.Status(), "", "  ")
		must(t, err)
		name := filepath.Join("testdata", "status.json")
		if os.Getenv("UPDATE") != "" {
			must(t, os.WriteFile(name, append(b, '\n'), 0o600))
		}
		want, err := os.ReadFile(name)
		must(t, err)
		if string(b)+"\n" != string(want) {
			t.Errorf("got %s", b)
		}
	})
}

// TestStreamAge: how long the stream is open, or has been down.
func TestStreamAge(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.Connected("s", false, errors.New("refused"))
		r.events("advance 3s")
		r.Connected("s", false, errors.New("refused again"))
		r.events("advance 4s")
		if s := r.Status(); s.DownFor != "7s" || s.StreamAge != "" || s.LastError != "refused again" {
			t.Errorf("down: %+v", s)
		}
		r.Connected("s", true, nil)
		r.events("advance 125s")
		if s := r.Status(); s.StreamAge != "2m5s" || s.DownFor != "" || s.LastError != "" || s.Streams != 1 {
			t.Errorf("up: %+v", s)
		}
	})
}

// TestStore: the file is whole or not used, and what is wrong with it is told.
func TestStore(t *testing.T) {
	const line = "cds 1 a=static:10.0.0.1:80 · lds 1 l=:80/a · advance 1s"
	t.Run("damaged", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.events(line)
			path := filepath.Join(r.dir, stateFile)
			whole, err := os.ReadFile(path)
			must(t, err)
			for at := range whole {
				b := slices.Clone(whole)
				b[at] ^= 0x10
				must(t, os.WriteFile(path, b, 0o600))
				if _, _, err := readState(path); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
					t.Fatalf("byte %d changed: error %v", at, err)
				}
				must(t, os.WriteFile(path, whole[:at], 0o600))
				if _, _, err := readState(path); !errors.Is(err, errDamaged) {
					t.Fatalf("cut at %d: error %v", at, err)
				}
			}
			r.events("restart")
			if r.plane.now().Clusters["a"] != nil || !strings.Contains(r.Status().Store, "moved to "+path+".damaged") {
				t.Errorf("serves %s, status says %q", r.plane.served(), r.Status().Store)
			}
			if _, err := os.Stat(path + ".damaged"); err != nil {
				t.Error(err)
			}
			r.events(line + " · restart")
			if r.plane.now().Clusters["a"] == nil || r.Status().Store != "" {
				t.Errorf("after that %s, status says %q", r.plane.served(), r.Status().Store)
			}
		})
	})
	t.Run("killed while it wrote", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.events(line)
			half, aside := filepath.Join(r.dir, stateFile+".123"), filepath.Join(r.dir, stateFile+".damaged")
			must(t, os.WriteFile(half, nil, 0o600))
			must(t, os.WriteFile(aside, nil, 0o600))
			r.events("restart")
			if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", half, err)
			}
			if _, err := os.Stat(aside); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("unwritable", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		must(t, os.WriteFile(dir, nil, 0o600)) // a file where the directory should be
		inBubble(t, func(o *ApplierOptions) { o.StateDir = dir }, func(r *rig) {
			r.events(line)
			if r.Status().Store == "" {
				t.Error("status says nothing")
			}
			must(t, os.Remove(dir))
			r.events("advance 5s")
			if s := r.Status().Store; s != "" {
				t.Errorf("status still says %q", s)
			}
			if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("no longer valid", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.events("cds 1 a=static:10.0.0.1:80 b=static:10.0.0.2:80 · lds 1 l=:80/a · advance 1s")
			head, parts, err := readState(filepath.Join(r.dir, stateFile))
			must(t, err)
			for _, p := range parts {
				for _, in := range p.GetResources() {
					if in.GetName() == "b" {
						in.Resource.Value = []byte("b=bad:now")
					}
				}
			}
			head.Sizes = nil
			must(t, writeState(r.dir, head, parts))
			r.events("restart")
			if got, want := r.plane.served(), "l:80→a a(10.0.0.1:80)"; got != want {
				t.Errorf("serves %s, want %s", got, want)
			}
		})
	})
}

// TestConcurrentReaders: pages look while a server sends. The race detector judges.
func TestConcurrentReaders(t *testing.T) {
	r := newRig(t, nil)
	defer func() { must(t, r.Close()) }()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r.Status()
				r.Ready()
				r.ClientConfig(nil, true)
				r.Accepted(KindCluster)
				r.APIs()
				r.wake()
			}
		})
	}
	for i := range 200 {
		u := Update{Kind: KindCluster, Variant: VariantSotw}
		name := string(rune('a' + i%5))
		u.Resources = []Resource{{Name: name, Body: []byte(name + "=static:10.0.0.1:80")}}
		if why := r.Update(u); why != nil {
			t.Fatal(why)
		}
	}
	close(stop)
	wg.Wait()
}
