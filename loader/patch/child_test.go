package patch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// TestMain runs the test binary as the child when it is asked to, or as one that
// does not behave.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "child" {
		os.Exit(m.Run())
	}
	switch os.Args[2] {
	case "apply":
		if err := Run(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "hog":
		var all [][]byte
		for len(all) < 1<<20 { // 1 TB
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		fmt.Println(len(all))
	case "fault": // what the runtime says when its collector gets no memory
		fmt.Fprintln(os.Stderr, "SIGSEGV: segmentation violation")
		os.Exit(2)
	case "wait":
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGUSR1)
		<-never
	case "talk":
		for range 1 << 16 {
			fmt.Println(strings.Repeat("nonsense", 10))
			fmt.Fprintln(os.Stderr, strings.Repeat("nonsense", 10))
		}
	case "die":
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		select {}
	case "panic":
		panic("a defect")
	}
}

// helper is a child that runs the test binary.
func helper(what string, memory int64, limit time.Duration) *Child {
	return &Child{Command: []string{os.Args[0], "child", what}, Memory: memory, Time: limit}
}

// task is a job with its files in a test's directory.
type task struct {
	Job

	header Header
	files  Files
	want   []byte
}

// newTask is a job for a patch of testdata. pieces cuts the base in two files.
func newTask(t *testing.T, name string, pieces bool) *task {
	t.Helper()
	old, want := read(t, "v1.safetensors"), read(t, "v2.safetensors")
	return makeTask(t, read(t, name), old, want, pieces)
}

func makeTask(t *testing.T, p, old, want []byte, pieces bool) *task {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, b []byte) *os.File {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	k := &task{want: want}
	k.files = Files{Patch: file("patch", p), Target: file("target", nil), Delta: file("delta", nil), Flat: file("flat", nil)}
	if pieces {
		k.files.Base = []*os.File{file("one", old[:5000]), file("two", old[5000:])}
		k.Base = []Segment{{0, 5000, 0, 0}, {5000, int64(len(old)) - 5000, 1, 0}}
	} else {
		k.files.Base = []*os.File{file("base", old)}
		k.Base = []Segment{{N: int64(len(old))}}
	}
	role, err := Detect(k.files.Patch)
	if err != nil {
		t.Fatal(err)
	}
	if k.header, err = ParseHeader(role, k.files.Patch, int64(len(p))); err != nil {
		t.Fatal(err)
	}
	k.Role, k.PatchSize = role, int64(len(p))
	k.BaseRoot, k.TargetRoot = delta.RootOfBytes(old), delta.RootOfBytes(want)
	return k
}

func (k *task) apply(ctx context.Context, c *Child) (Result, error) {
	return c.Apply(ctx, &k.Job, &k.header, &k.files)
}

// check reports whether target and delta are the new version.
func (k *task) check(t *testing.T, old []byte, r Result) {
	t.Helper()
	got, err := os.ReadFile(k.files.Target.Name())
	if err != nil || !bytes.Equal(got, k.want) {
		t.Errorf("the new version has %d bytes, want %d: %v", len(got), len(k.want), err)
	}
	d, err := delta.Parse(k.files.Delta, r.Delta)
	if err == nil {
		err = d.Verify(t.Context(), bytes.NewReader(old), delta.Options{})
	}
	if err != nil || d.Header.TargetRoot != k.TargetRoot {
		t.Errorf("delta: %v", err)
	}
}

// TestChildApplies: what Python's bsdiff4 and zstd wrote becomes the new version and
// the delta to it, in another process, whether the base is one file or more.
func TestChildApplies(t *testing.T) {
	for _, name := range []string{"v2.bsdiff4", "v2.zst"} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", pieces), func(t *testing.T) {
				k := newTask(t, name, pieces)
				r, err := k.apply(t.Context(), helper("apply", memory, time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				k.check(t, read(t, "v1.safetensors"), r)
				if r.Target != int64(len(k.want)) || r.Delta <= 0 || r.Delta >= r.Target || r.Made <= 0 || r.Diffed <= 0 || r.Took <= 0 || r.Peak <= 0 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// TestChildsReasons: what is wrong with a patch comes back in words.
func TestChildsReasons(t *testing.T) {
	old, want := read(t, "v1.safetensors"), read(t, "v2.safetensors")
	other := bytes.Clone(old)
	other[len(other)-100] ^= 1
	for name, c := range map[string]struct {
		patch, old []byte
		want       string
	}{
		"damaged bsdiff4": {slicesWith(read(t, "v2.bsdiff4"), 50, []byte{1, 2, 3}), old, "control block"},
		"cut bsdiff4":     {read(t, "v2.bsdiff4")[:900], old, "block"},
		"damaged zstd":    {slicesWith(read(t, "v2.zst"), 700, []byte{1, 2, 3, 4}), old, "zstd: "},
		"cut zstd":        {read(t, "v2.zst")[:900], old, "zstd: "},
		"other base":      {read(t, "v2.bsdiff4"), other, "makes a version with root"},
		"other base, z":   {read(t, "v2.zst"), other, "zstd: "},
	} {
		k := makeTask(t, c.patch, c.old, want, false)
		if _, err := k.apply(t.Context(), helper("apply", memory, time.Minute)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	k := newTask(t, "v2.bsdiff4", false)
	k.BaseRoot[0] ^= 1
	if _, err := k.apply(t.Context(), helper("apply", memory, time.Minute)); err == nil || !strings.Contains(err.Error(), "the base has root") {
		t.Errorf("another base root: %v", err)
	}
	k = newTask(t, "v2.bsdiff4", false)
	k.Base[0].N += 10
	if _, err := k.apply(t.Context(), helper("apply", memory, time.Minute)); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("a base that is too short: %v", err)
	}
}

// TestChildThatMisbehaves is stopped, or told from the others, and nothing of it
// reaches the parent.
func TestChildThatMisbehaves(t *testing.T) {
	k := newTask(t, "v2.bsdiff4", false)
	for what, c := range map[string]struct {
		limit time.Duration
		is    error
		want  string
	}{
		"wait":  {50 * time.Millisecond, ErrTime, "over its time limit of 50ms"},
		"die":   {time.Minute, ErrKilled, "SIGKILL"},
		"panic": {time.Minute, nil, "a defect"},
		"talk":  {time.Minute, nil, "invalid character"},
	} {
		_, err := k.apply(t.Context(), helper(what, memory, c.limit))
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if _, err := k.apply(t.Context(), &Child{}); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("without a command: %v", err)
	}
	if _, err := k.apply(t.Context(), &Child{Command: []string{"/does/not/exist"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a program: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("closed")
	cancel(why)
	if _, err := k.apply(ctx, helper("apply", memory, 0)); !errors.Is(err, why) {
		t.Errorf("canceled: %v", err)
	}
}
