package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
)

// fakeS3 is the least of an S3 server that protocol errors can be shown with: list,
// GET with ranges and conditions, PUT. What a real one does is conformance's.
type fakeS3 struct {
	mu      sync.Mutex
	objects map[string][]byte // by key
	times   map[string]time.Time
	asked   []string // "METHOD key", or "LIST"; in order
	// fault, when it is set, may answer in place of the server: it returns true then.
	fault func(w http.ResponseWriter, r *http.Request, key string) bool
}

const fakeBucket = "models"

func newFakeS3() *fakeS3 {
	return &fakeS3{objects: make(map[string][]byte), times: make(map[string]time.Time)}
}

func etagOf(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s, says the fake</Message></Error>", code, code)
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, "/"+fakeBucket), "/")
	if !ok || key == "" {
		key = ""
	}
	list := r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2"
	f.mu.Lock()
	fault := f.fault
	if list {
		f.asked = append(f.asked, "LIST")
	} else {
		f.asked = append(f.asked, r.Method+" "+key)
	}
	f.mu.Unlock()
	if fault != nil && fault(w, r, key) {
		return
	}
	switch {
	case list:
		f.list(w, r.URL.Query().Get("prefix"))
	case r.Method == http.MethodGet:
		f.get(w, r, key)
	case r.Method == http.MethodPut:
		f.put(w, r, key)
	default:
		s3Error(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func (f *fakeS3) list(w http.ResponseWriter, prefix string) {
	type contents struct {
		Key, LastModified, ETag string
		Size                    int
	}
	out := struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		Name        string
		KeyCount    int
		MaxKeys     int
		IsTruncated bool
		Contents    []contents
	}{Name: fakeBucket, MaxKeys: 1000}
	f.mu.Lock()
	for _, k := range slices.Sorted(maps.Keys(f.objects)) {
		if strings.HasPrefix(k, prefix) {
			out.Contents = append(out.Contents, contents{k, f.times[k].UTC().Format(time.RFC3339), etagOf(f.objects[k]), len(f.objects[k])})
		}
	}
	f.mu.Unlock()
	out.KeyCount = len(out.Contents)
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(out) // to a test's own client
}

func (f *fakeS3) get(w http.ResponseWriter, r *http.Request, key string) {
	f.mu.Lock()
	b, ok := f.objects[key]
	at := f.times[key]
	f.mu.Unlock()
	if !ok {
		s3Error(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", etagOf(b))
	http.ServeContent(w, r, "", at, bytes.NewReader(b)) // ranges and If-Match
}

func (f *fakeS3) put(w http.ResponseWriter, r *http.Request, key string) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	sum := md5.Sum(b)
	if want := r.Header.Get("Content-Md5"); want != base64.StdEncoding.EncodeToString(sum[:]) {
		s3Error(w, http.StatusBadRequest, "BadDigest")
		return
	}
	f.store(key, b)
	w.Header().Set("ETag", etagOf(b))
}

func (f *fakeS3) store(key string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[key], f.times[key] = b, time.Now()
}

func (f *fakeS3) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, key)
}

func (f *fakeS3) object(key string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[key]
}

// breaks sets what answers in place of the server; nil: nothing.
func (f *fakeS3) breaks(fault func(w http.ResponseWriter, r *http.Request, key string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// requests returns what was asked since the last call.
func (f *fakeS3) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.asked
	f.asked = nil
	return out
}

// anonymous makes requests carry no credentials of the environment.
func anonymous(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// bucketOn returns the fake's bucket over an in-memory network.
func bucketOn(t *testing.T, n *testkit.Net, o Options) *Bucket {
	t.Helper()
	o.Getenv = func(string) string { return "" }
	o.Dial = func(ctx context.Context, _, address string) (net.Conn, error) { return n.Dial(ctx, address) }
	b, err := Open("s3://"+fakeBucket+"/prod?endpoint=http://s3.test:80&addressing=path", o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
