//go:build !race

package patch

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const memory = 256 << 20 // bytes that children of tests may take

// TestChildStaysWithinItsNeed: what a patch is said to take suffices.
func TestChildStaysWithinItsNeed(t *testing.T) {
	for _, name := range []string{"v2.bsdiff4", "v2.zst"} {
		k := newTask(t, name, true)
		need := k.header.Need(int64(len(read(t, "v1.safetensors"))), false)
		if _, err := k.apply(t.Context(), helper("apply", need.Memory, time.Minute)); err != nil {
			t.Errorf("%s with %d bytes: %v", name, need.Memory, err)
		}
	}
}

// TestChildOverItsMemory ends, and its end says why.
func TestChildOverItsMemory(t *testing.T) {
	k := newTask(t, "v2.bsdiff4", false)
	r, err := k.apply(t.Context(), helper("hog", 256<<20, time.Minute))
	if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "256 MB") {
		t.Fatal(err)
	}
	if r.Peak > 512<<20 {
		t.Errorf("it had %d MB", r.Peak>>20)
	}
	if _, err := k.apply(t.Context(), helper("fault", 256<<20, time.Minute)); !errors.Is(err, ErrMemory) {
		t.Errorf("the collector's fault: %v", err)
	}
}
