package objects

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// rig is a loader that is fed from a fake bucket, in a bubble.
type rig struct {
	t        *testing.T
	s3       *fakeS3
	server   testkit.Listener
	net      *testkit.Net
	bucket   *Bucket
	source   *Source
	local    chan loader.Candidate
	merged   *loader.Sources
	loader   *loader.Loader
	drops    string // what was packed
	store    string
	received atomic.Int64
	failed   atomic.Int64
	opts     loader.Options
	tier     time.Duration
}

// inBubble runs f on a rig in fake time.
func inBubble(t *testing.T, tier time.Duration, f func(r *rig)) {
	t.Helper()
	anonymous(t)
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, s3: newFakeS3(), net: testkit.NewNet(), drops: t.TempDir(), store: t.TempDir(), tier: tier}
		r.server = testkit.Serve(r.net, "s3.test:80", r.s3, testkit.H1)
		r.opts = loader.Options{Retain: tier > 0}
		r.open()
		defer func() { // also after a Fatal: the bubble must be empty
			r.close()
			r.server.Kill()
		}()
		f(r)
	})
}

func (r *rig) open() {
	r.t.Helper()
	r.bucket = bucketOn(r.t, r.net, Options{
		Moved:  func(received, _ int64) { r.received.Add(received) },
		Failed: func(string) { r.failed.Add(1) },
	})
	r.source = NewSource(r.bucket, SourceOptions{
		Dir: filepath.Join(r.store, "fetched"), Tier: r.tier, Log: slog.New(slog.NewTextHandler(r.t.Output(), nil)),
	})
	r.local = make(chan loader.Candidate)
	r.merged = loader.Merge(r.source, source(r.local))
	r.opts.Store, r.opts.Source = r.store, r.merged
	var err error
	if r.loader, err = loader.Open(r.t.Context(), r.opts); err != nil {
		r.t.Fatal(err)
	}
	if err := r.source.Start(r.loader); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.loader.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.source.Close(); err != nil {
		r.t.Error(err)
	}
	r.merged.Close()
}

type source chan loader.Candidate

func (s source) Candidates() <-chan loader.Candidate { return s }

const pages = 64

// file returns a version's safetensors bytes: pages of noise, one of which is each
// version's own, and one shared by all above it.
func file(version uint64) []byte {
	head, err := json.Marshal(map[string]any{"w": map[string]any{"dtype": "U8", "shape": []int{pages * 4096}, "data_offsets": []int{0, pages * 4096}}})
	if err != nil {
		panic(err)
	}
	head = append(head, bytes.Repeat([]byte{' '}, 4096-8-len(head))...)
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	data := make([]byte, pages*4096)
	for i := range data {
		data[i] = byte(i*7) ^ byte(i>>8)
	}
	for n := uint64(1); n <= version; n++ {
		for i := range 4096 {
			data[int(n%pages)*4096+i] = byte(i) + byte(n)*3
		}
	}
	return append(b, data...)
}

// pack makes version's drop; base 0: a full file.
func (r *rig) pack(version, base uint64, change func(*delta.Pack)) string {
	r.t.Helper()
	dir := filepath.Join(r.drops, strconv.FormatUint(version, 10))
	if err := os.Mkdir(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer root.Close()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, Canary: &delta.Canary{}}}
	if change != nil {
		change(p)
	}
	if base == 0 {
		_, err = p.Full(r.t.Context(), root, bytes.NewReader(file(version)))
	} else {
		_, _, err = p.Delta(r.t.Context(), root, base, bytes.NewReader(file(base)), bytes.NewReader(file(version)), false)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return dir
}

// push packs a version and puts it into the bucket.
func (r *rig) push(version, base uint64) {
	r.t.Helper()
	r.pushDir(r.pack(version, base, nil))
}

func (r *rig) pushDir(dir string) {
	r.t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer root.Close()
	b := bucketOn(r.t, r.net, Options{})
	defer b.Close()
	if _, err := b.Push(r.t.Context(), root); err != nil {
		r.t.Fatal(err)
	}
}

// drop hands a version to the loader as another source would.
func (r *rig) drop(version, base uint64) {
	r.t.Helper()
	dir := r.pack(version, base, nil)
	r.local <- loader.Candidate{Drop: fmt.Sprint("local-", version), Dir: dir, Open: func() (*os.Root, error) { return os.OpenRoot(dir) }}
}

// await waits for an event of a version, and returns all events until then.
func (r *rig) await(k loader.Kind, version uint64) (before []loader.Event) {
	r.t.Helper()
	late := time.After(30 * 24 * time.Hour) // of fake time
	for {
		select {
		case ev := <-r.loader.Events():
			before = append(before, ev)
			if ev.Kind == k && ev.Version == version {
				return before
			}
		case <-late:
			r.t.Fatalf("no %s of version %d; problems: %+v; quarantined: %+v", k, version, r.source.Problems(), r.loader.Quarantined())
		}
	}
}

// serves checks that a version is active and has its own bytes.
func (r *rig) serves(version uint64) {
	r.t.Helper()
	lease, err := r.loader.Acquire("score", math.MaxUint64)
	if err != nil {
		r.t.Fatal(err)
	}
	defer lease.Release()
	if lease.Info().Number != version {
		r.t.Fatalf("version %d is active, want %d", lease.Info().Number, version)
	}
	err = lease.With(func(v loader.View) error {
		_, b, ok := v.Tensor("w")
		if !ok || !bytes.Equal(b, file(version)[4096:]) {
			return fmt.Errorf("the bytes are not version %d's", version)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// problem waits for a look at the bucket that ends with a problem, or with none
// when says is empty.
func (r *rig) problem(says string) {
	r.t.Helper()
	for range 1000 {
		p := r.source.Problems()
		if says == "" && len(p) == 0 || says != "" && len(p) == 1 && strings.Contains(p[0].Reason, says) {
			return
		}
		time.Sleep(time.Second)
	}
	r.t.Fatalf("the problems are %+v, want one with %q", r.source.Problems(), says)
}

// gets counts the GETs of a file of a version among requests.
func gets(requests []string, version uint64, suffix string) (n int) {
	for _, q := range requests {
		if strings.HasPrefix(q, fmt.Sprintf("%s prod/score/%d/", http.MethodGet, version)) && strings.HasSuffix(q, suffix) {
			n++
		}
	}
	return n
}

// stored reports whether the local store has a folder for a version.
func (r *rig) stored(version uint64) bool {
	_, err := os.Stat(filepath.Join(r.store, "models", "score", strconv.FormatUint(version, 10)))
	return err == nil
}

// staged returns what the source keeps of what it fetched.
func (r *rig) staged() []os.DirEntry {
	r.t.Helper()
	list, err := os.ReadDir(filepath.Join(r.store, "fetched"))
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// reopenServer starts the server again after a Kill.
func (r *rig) reopenServer() {
	r.server = testkit.Serve(r.net, "s3.test:80", r.s3, testkit.H1)
}
