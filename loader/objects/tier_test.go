package objects

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader"
)

// What is asked for by its number comes, though a later one is active; and nothing
// up to that one comes back by itself.
func TestAnOlderVersionIsActivatedByItsNumber(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.push(1, 0)
		r.await(loader.EventActive, 1)
		for n := uint64(2); n <= 4; n++ {
			if n == 4 {
				r.push(4, 0)
			} else {
				r.push(n, n-1)
			}
			r.await(loader.EventActive, n)
		}
		r.drop(5, 4)
		r.await(loader.EventActive, 5)
		if err := r.source.Activate(r.t.Context(), "score", 2); err != nil {
			t.Fatal(err)
		}
		r.serves(2)
		time.Sleep(time.Hour)
		r.serves(2)
		r.close()
		r.open()
		r.serves(2)
		time.Sleep(time.Hour)
		r.serves(2)
		for version, want := range map[uint64]string{9: "the bucket does not hold it", 2: "already present"} {
			if err := r.source.Activate(r.t.Context(), "score", version); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("activating %d: %v, want %q", version, err, want)
			}
		}
		r.push(6, 2)
		r.await(loader.EventActive, 6)
		r.serves(6)
	})
}

// A version that nothing needs moves to the bucket at its age, not before, and is
// removed here once it was read back from there.
func TestOldVersionsMoveToTheBucket(t *testing.T) {
	inBubble(t, DefaultTier, func(r *rig) {
		r.drop(1, 0)
		r.await(loader.EventActive, 1)
		r.drop(2, 0)
		r.await(loader.EventActive, 2)
		r.drop(3, 0)
		r.await(loader.EventActive, 3)
		r.drop(4, 3)
		r.await(loader.EventActive, 4)
		time.Sleep(DefaultTier - time.Hour)
		if !r.stored(1) || !r.stored(2) || len(r.s3.objects) != 0 {
			t.Fatalf("versions moved before their age: %d objects", len(r.s3.objects))
		}
		r.s3.breaks(func(w http.ResponseWriter, req *http.Request, key string) bool {
			if req.Method == http.MethodGet && strings.HasSuffix(key, ".safetensors") { // what is read back is not what was sent
				b := slices.Clone(r.s3.object(key))
				b[7000] ^= 1
				w.Header().Set("ETag", etagOf(r.s3.object(key)))
				_, _ = w.Write(b)
				return true
			}
			return false
		})
		time.Sleep(2 * time.Hour)
		if p := r.source.Problems(); len(p) != 2 || !strings.Contains(p[0].Reason, "it stays in the local store") || !r.stored(1) || !r.stored(2) {
			t.Fatalf("the bucket gives other bytes back: %+v", p)
		}
		r.s3.breaks(nil)
		r.await(loader.EventTiered, 2)
		r.problem("")
		for n, want := range map[uint64]bool{1: false, 2: false, 3: true, 4: true} {
			if r.stored(n) != want {
				t.Errorf("version %d in the local store: %t, want %t", n, !want, want)
			}
		}
		if got := r.s3.object("prod/score/1/model.safetensors"); !bytes.Equal(got, file(1)) {
			t.Error("the bucket's version 1 has other bytes")
		}
		held, _ := r.source.Held()
		if len(held) != 2 || held[0].Version != 1 || held[1].Version != 2 {
			t.Errorf("held: %+v", held)
		}
		r.serves(4)
		if err := r.source.Activate(r.t.Context(), "score", 1); err != nil {
			t.Fatal(err)
		}
		r.serves(1)
		// Back here it is needed; the one that it replaced is the standby.
		if err := r.loader.Reactivate(r.t.Context(), "score", 4); err != nil {
			t.Fatal(err)
		}
		r.serves(4)
	})
}

// Before its age, a version that nothing needs comes back from the local store.
func TestARetainedVersionComesBackWithoutTheBucket(t *testing.T) {
	inBubble(t, DefaultTier, func(r *rig) {
		for n := uint64(1); n <= 3; n++ {
			r.drop(n, 0)
			r.await(loader.EventActive, n)
		}
		r.close()
		r.server.Kill()
		r.open()
		r.serves(3)
		if err := r.loader.Reactivate(r.t.Context(), "score", 1); err != nil {
			t.Fatal(err)
		}
		r.serves(1)
		r.reopenServer()
	})
}

// A version that is made of others goes with them, so that the bucket alone is
// enough to make it again.
func TestWhatAVersionIsMadeOfGoesWithIt(t *testing.T) {
	inBubble(t, DefaultTier, func(r *rig) {
		r.drop(1, 0)
		r.await(loader.EventActive, 1)
		r.drop(2, 1)
		r.await(loader.EventActive, 2)
		for n := uint64(3); n <= 4; n++ {
			r.drop(n, 0)
			r.await(loader.EventActive, n)
		}
		r.await(loader.EventTiered, 1) // after version 2, which is made of it
		if r.stored(1) || r.stored(2) {
			t.Error("a tiered version is still in the local store")
		}
		if err := r.source.Activate(r.t.Context(), "score", 2); err != nil {
			t.Fatal(err)
		}
		r.serves(2)
	})
}
