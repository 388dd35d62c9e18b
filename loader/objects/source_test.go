package objects

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// What lies between what is here and the newest version is fetched as far as it is
// needed, in deltas, and never tried on anybody.
func TestTheWayWithTheFewestBytesIsFetched(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.serves(1)
		synctest.Wait()
		r.s3.requests()
		before := r.received.Load()
		r.push(2, 1)
		r.push(3, 2)
		r.push(4, 0) // full: more bytes than the deltas
		dir := r.pack(5, 3, nil)
		r.pushDir(dir)
		for _, ev := range r.await(loader.EventActive, 5) {
			if ev.Version != 5 && ev.Version != 1 {
				t.Errorf("%s of version %d on the way", ev.Kind, ev.Version)
			}
		}
		r.serves(5)
		asked := r.s3.requests()
		for n, want := range map[uint64]int{2: 1, 3: 1, 4: 0, 5: 1} {
			if got := gets(asked, n, ".qd") + gets(asked, n, ".safetensors"); got != want {
				t.Errorf("%d files of version %d were fetched, want %d: %q", got, n, want, asked)
			}
		}
		var bytes int64
		for _, n := range []int{2, 3, 5} {
			list, err := os.ReadDir(filepath.Join(r.drops, strconv.Itoa(n)))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				fi, err := e.Info()
				if err != nil {
					t.Fatal(err)
				}
				bytes += fi.Size()
			}
		}
		manifest4 := int64(len(r.s3.object("prod/score/4/MANIFEST.json")))
		if got := r.received.Load() - before; got != bytes+manifest4 {
			t.Errorf("%d bytes were received, the deltas and manifests have %d", got, bytes+manifest4)
		}
		time.Sleep(2 * DefaultEvery)
		if left := r.staged(); len(left) > 0 {
			t.Errorf("%d directories of fetched files are left", len(left))
		}
		r.close()
		r.open() // the chain is in the store
		r.serves(5)
		time.Sleep(2 * DefaultEvery)
		if n := gets(r.s3.requests(), 5, ".qd"); n != 0 {
			t.Errorf("after a restart the delta was fetched %d times more", n)
		}
	})
}

// A version that only served as a base is no version by itself, whenever the process
// ends.
func TestBasesAreRemovedWithWhatIsMadeOfThem(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.push(2, 1)
		dir := r.pack(3, 2, func(p *delta.Pack) { p.Manifest.Canary = &delta.Canary{Weight: 50, PromoteAfter: time.Hour} })
		r.pushDir(dir)
		r.await(loader.EventCanary, 3)
		if !r.stored(2) || !r.stored(3) {
			t.Fatal("the chain is not in the store")
		}
		if err := r.loader.Rollback(r.t.Context(), "score", 3, "bad"); err != nil {
			t.Fatal(err)
		}
		r.await(loader.EventUnloadSuccess, 3)
		time.Sleep(time.Minute)
		if r.stored(3) || !r.stored(1) {
			t.Error("the refused version is still in the store, or the active one is not")
		}
		// Version 2 is above the active one and was never refused: it comes by itself now.
		r.await(loader.EventActive, 2)
		r.serves(2)
	})
}

func TestACutBodyIsAskedForFromWhereItEnded(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		cuts := 0
		r.s3.breaks(func(w http.ResponseWriter, req *http.Request, key string) bool {
			if !strings.HasSuffix(key, ".safetensors") || req.Method != http.MethodGet || cuts == 7 {
				return false
			}
			cuts++ // more often than a request is repeated without progress
			b := r.s3.object(key)
			from := 0
			if s := req.Header.Get("Range"); s != "" {
				if _, err := fmt.Sscanf(s, "bytes=%d-", &from); err != nil {
					t.Errorf("range %q: %v", s, err)
				}
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
			}
			w.Header().Set("ETag", etagOf(b))
			w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
			if from > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(b[from : from+20_000])
			panic(http.ErrAbortHandler)
		})
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.serves(1)
		want := int64(len(file(1)) + len(r.s3.object("prod/score/1/MANIFEST.json")))
		if got := r.received.Load(); got != want || cuts != 7 || r.failed.Load() != 7 {
			t.Errorf("received %d bytes in %d cuts with %d failures, want %d bytes, each once", got, cuts, r.failed.Load(), want)
		}
	})
}

func TestAStalledBodyIsGivenUp(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		stalls := 0
		r.s3.breaks(func(w http.ResponseWriter, req *http.Request, key string) bool {
			if !strings.HasSuffix(key, ".safetensors") || req.Method != http.MethodGet || stalls == 1 {
				return false
			}
			stalls++
			b := r.s3.object(key)
			w.Header().Set("ETag", etagOf(b))
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b[:len(b)/2])
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
			return true
		})
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.serves(1)
		if stalls != 1 || r.failed.Load() != 1 {
			t.Errorf("%d stalls, %d failures, want one of each", stalls, r.failed.Load())
		}
	})
}

func TestServerErrorsAreToldAndPass(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		says   string
		tries  int64
	}{
		"overloaded":    {http.StatusServiceUnavailable, "SlowDown", "given up after 5 attempts", attempts},
		"broken":        {http.StatusInternalServerError, "InternalError", "given up after 5 attempts", attempts},
		"forbidden":     {http.StatusForbidden, "AccessDenied", "no credentials were found in AWS_ACCESS_KEY_ID nor in ~/.aws/credentials, and the bucket is not public (status 403, AccessDenied)", 1},
		"no bucket":     {http.StatusNotFound, "NoSuchBucket", "there is no such bucket: make it, or correct the URL or its endpoint (status 404, NoSuchBucket)", 1},
		"not implement": {http.StatusNotImplemented, "NotImplemented", "NotImplemented, says the fake", 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, func(r *rig) {
				r.push(1, 0)
				r.await(loader.EventActive, 1)
				before := r.failed.Load()
				r.s3.breaks(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
					s3Error(w, c.status, c.code)
					return true
				})
				r.problem(c.says)
				if got := r.failed.Load() - before; got != c.tries {
					t.Errorf("%d requests failed until it was told, want %d", got, c.tries)
				}
				if p := r.source.Problems()[0]; p.About != "s3://models/prod/" || p.Model != "" {
					t.Errorf("the problem is about %q of model %q, want the bucket", p.About, p.Model)
				}
				r.serves(1) // what is here goes on
				r.drop(2, 1)
				r.await(loader.EventActive, 2)
				r.s3.breaks(nil)
				r.problem("")
				r.push(3, 2)
				r.await(loader.EventActive, 3)
				r.serves(3)
			})
		})
	}
}

// A server that is away, and one that comes back, are no different.
func TestAServerThatIsAwayIsToldAndComesBack(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.server.Kill()
		r.problem("connection refused")
		r.serves(1)
		r.reopenServer()
		r.problem("")
		r.push(2, 1)
		r.await(loader.EventActive, 2)
	})
}

// One bad version costs itself only, says why, and is not fetched again and again.
func TestABadVersionIsFetchedOnce(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.push(3, 1)
		bad := slices.Clone(r.s3.object("prod/score/3/v3.qd"))
		bad[len(bad)-1] ^= 1
		r.s3.store("prod/score/3/v3.qd", bad)
		r.await(loader.EventQuarantined, 3)
		r.push(2, 1) // the next best
		r.await(loader.EventActive, 2)
		time.Sleep(time.Hour)
		if n := gets(r.s3.requests(), 3, ".qd"); n != 1 {
			t.Errorf("the bad delta was fetched %d times", n)
		}
		if q := r.loader.Quarantined(); len(q) != 1 || q[0].Drop != "s3://models/prod/score/3" {
			t.Errorf("quarantined: %+v", q)
		}
		r.s3.remove("prod/score/3/MANIFEST.json")
		time.Sleep(time.Minute)
		if q := r.loader.Quarantined(); len(q) != 0 {
			t.Errorf("it was taken away, and is still quarantined: %+v", q)
		}
		if err := os.RemoveAll(filepath.Join(r.drops, "3")); err != nil {
			t.Fatal(err)
		}
		r.s3.remove("prod/score/3/v3.qd")
		r.push(3, 2) // pushed again, in order
		r.await(loader.EventActive, 3)
		r.serves(3)
	})
}

func TestRefusedVersionsAreNotFetched(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		r.push(2, 1)
		r.await(loader.EventActive, 2)
		if err := r.loader.Rollback(r.t.Context(), "score", 2, "bad"); err != nil {
			t.Fatal(err)
		}
		r.s3.requests()
		time.Sleep(time.Hour)
		if n := gets(r.s3.requests(), 2, ""); n != 0 {
			t.Errorf("a refused version was fetched %d times", n)
		}
		r.serves(1)
	})
}

func TestProblemsOfVersions(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(r *rig)
		says   string
	}{
		"a base that is nowhere": {func(r *rig) { r.push(3, 2) }, "score@2 with root b3:"},
		"a file that is missing": {func(r *rig) {
			r.push(3, 1)
			r.s3.remove("prod/score/3/v3.qd")
		}, "the bucket has no file of score@3 in the size that its manifest says"},
		"a cut file": {func(r *rig) {
			r.push(3, 1)
			r.s3.store("prod/score/3/v3.qd", r.s3.object("prod/score/3/v3.qd")[:5000])
		}, "the bucket has no file of score@3 in the size that its manifest says"},
		"no manifest": {func(r *rig) { r.s3.store("prod/score/3/MANIFEST.json", []byte("{}")) }, "model: is missing"},
		"a manifest that is too large": {func(r *rig) {
			r.s3.store("prod/score/3/MANIFEST.json", bytes.Repeat([]byte{' '}, maxManifest+1))
		}, "has 1048577 bytes, at most 1048576 are read"},
		"another's manifest": {func(r *rig) {
			r.s3.store("prod/score/3/MANIFEST.json", r.s3.object("prod/score/1/MANIFEST.json"))
		}, "is of score@1, but stands at score/3"},
		"a variable that is not set": {func(r *rig) {
			r.pushDir(r.pack(3, 1, func(p *delta.Pack) { p.Manifest.RequiredEnv = []string{"QUADNINE_TEST_UNSET"} }))
		}, "QUADNINE_TEST_UNSET is not set here"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, func(r *rig) {
				r.push(1, 0)
				r.await(loader.EventActive, 1)
				c.breaks(r)
				r.problem(c.says)
				p := r.source.Problems()[0]
				if p.About != "s3://models/prod/score/3" || p.Model != "score" || p.Version != 3 {
					t.Errorf("the problem is about %+v", p)
				}
				r.serves(1)
				r.drop(4, 1) // other sources do not notice
				r.await(loader.EventActive, 4)
				if left := r.staged(); len(left) > 0 {
					t.Errorf("%d directories of fetched files are left", len(left))
				}
			})
		})
	}
}

// A file that is replaced while it is read does not become half of one and half of
// the other.
func TestAnObjectThatIsReplacedWhileItIsRead(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		swapped := false
		r.s3.breaks(func(w http.ResponseWriter, req *http.Request, key string) bool {
			if swapped || !strings.HasSuffix(key, ".safetensors") || req.Method != http.MethodGet {
				return false
			}
			swapped = true
			b := r.s3.object(key)
			w.Header().Set("ETag", etagOf(b))
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b[:100_000])
			r.s3.store(key, append(slices.Clone(b[:len(b)-1]), b[len(b)-1]^1))
			panic(http.ErrAbortHandler)
		})
		r.push(1, 0)
		r.problem("the object was replaced while it was read")
		r.await(loader.EventQuarantined, 1) // fetched as it is now, whole, and found to be wrong
	})
}
