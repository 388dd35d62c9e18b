package main

import (
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// lockedBelow adds up what the kernel says is locked of this process's mappings of
// files below dir, in kB.
func lockedBelow(t *testing.T, dir string) (kb int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") { // from-to perms offset device inode name
			inside = len(f) > 5 && strings.HasPrefix(f[5], dir+"/")
		} else if f[0] == "Locked:" && inside {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			kb += n
		}
	}
	return kb
}

// With --model-mlock the versions that answer are locked into memory, also after a
// restart, and the gauge says so; without it none is.
func TestModelMlock(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	dropVersion(t, dir, 1, weights{2, 1}, delta.Canary{})
	for _, mlock := range []bool{true, true, false} {
		t.Run(strconv.FormatBool(mlock), func(t *testing.T) {
			s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: store, mlock: mlock}})
			for !s.modelState(1, "active") || mlock != (lockedBelow(t, store) > 0) { // after a restart it is locked in the background
				runtime.Gosched()
			}
			gauge := `quadnine_model_locked_bytes{model="score",version="1"} `
			_, value, _ := strings.Cut(s.admin("/stats/prometheus"), gauge)
			value, _, _ = strings.Cut(value, "\n")
			if bytes, err := strconv.ParseFloat(value, 64); err != nil || mlock != (bytes > 0) {
				t.Errorf("%s%q, locked %v", gauge, value, mlock)
			}
			if _, version, a := s.score(s.client(true), "u"); a.status != http.StatusOK || version != "score@1" {
				t.Errorf("%d by %q: %s", a.status, version, a.body)
			}
		})
		if kb := lockedBelow(t, store); kb != 0 {
			t.Errorf("%d kB are locked after the end", kb)
		}
	}
}
