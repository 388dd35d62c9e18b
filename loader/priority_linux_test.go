package loader

import (
	"bytes"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
)

// Priority is a thread's, not the process's: every goroutine that hashes has to have
// its own lowered, and who waits for them keeps his.
func TestHashingThreadsHaveTheLowestPriority(t *testing.T) {
	nice := func() int {
		a, err := unix.SchedGetAttr(0, 0)
		must(t, err)
		if a.Nice == 19 && a.Runtime != 0 && a.Runtime != uint64(slice) { // 0: an older kernel
			t.Errorf("thread %d has a slice of %d ns, want %v", unix.Gettid(), a.Runtime, slice)
		}
		return int(a.Nice)
	}
	l := &Loader{opts: Options{Hashers: 4}}
	o := l.hashing()
	var mu sync.Mutex
	threads := make(map[int]int) // thread → nice
	var all sync.WaitGroup
	all.Add(o.Workers)
	seen := sync.Map{}
	o.Progress = func(int64) {
		id := unix.Gettid()
		mu.Lock()
		threads[id] = nice()
		mu.Unlock()
		if _, again := seen.LoadOrStore(id, true); !again {
			all.Done()
			all.Wait() // until each of them has a part
		}
	}
	done := make(chan error)
	go func() {
		Lowest()
		_, err := delta.LeavesOf(t.Context(), bytes.NewReader(make([]byte, 8<<20)), o)
		done <- err
	}()
	must(t, <-done)
	if len(threads) != o.Workers {
		t.Fatalf("%d threads hashed, want %d", len(threads), o.Workers)
	}
	for id, n := range threads {
		if n != 19 {
			t.Errorf("thread %d hashed at nice %d, want 19", id, n)
		}
	}
	if n := nice(); n == 19 {
		t.Error("the test's own thread was lowered too")
	}
}
